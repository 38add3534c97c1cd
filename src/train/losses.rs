//! The losses of an epoch.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The losses of an epoch's batches, on the device until they are fetched at once, and in one block: a tensor
/// of its own for each would lie, until the epoch ends, in the midst of the memory from which the next steps'
/// activations are taken, and break it into pieces that these do not fit.
pub(super) struct Losses {
    of_batches: Tensor,
    /// Images of each batch that is done.
    pub lengths: Vec<usize>,
}

impl Losses {
    pub fn new(batches: usize, device: Device) -> Result<Self> {
        let of_batches = Tensor::f_zeros([batches as i64], (Kind::Float, device))
            .map_err(Error::torch("reserve the losses"))?;
        Ok(Self { of_batches, lengths: Vec::with_capacity(batches) })
    }

    /// Notes the mean loss, a scalar, of the next batch, which has so many images.
    pub fn push(&mut self, loss: &Tensor, images: usize) -> Result<()> {
        let place = self.of_batches.f_get(self.lengths.len() as i64);
        let copied = place.and_then(|mut place| place.f_copy_(loss));
        copied.map_err(Error::torch("note the loss"))?;
        self.lengths.push(images);
        Ok(())
    }

    /// One for each batch that is done.
    pub fn fetch(&self) -> Result<Vec<f64>> {
        let refused = || Error::torch("fetch the losses");
        let done = self.of_batches.f_narrow(0, 0, self.lengths.len() as i64);
        let done = done.and_then(|done| done.f_to_kind(Kind::Double)).map_err(refused())?;
        Vec::<f64>::try_from(&done).map_err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_fetched_as_they_came_with_the_images_of_their_batches() {
        let mut losses = Losses::new(4, Device::Cpu).unwrap();
        for (loss, images) in [(0.1_f32, 128), (f32::NAN, 128), (2.5, 80)] {
            losses.push(&Tensor::from(loss), images).unwrap();
        }
        let fetched = losses.fetch().unwrap();
        assert_eq!([fetched[0], fetched[2]], [f64::from(0.1_f32), 2.5]);
        assert!(fetched.len() == 3 && fetched[1].is_nan());
        assert_eq!(losses.lengths, [128, 128, 80]);
        let last = Tensor::from(0.5_f32);
        losses.push(&last, 1).unwrap();
        assert!(losses.push(&last, 1).is_err(), "more batches than there are");
    }
}
