//! Images that are read from files, ahead of the training step.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tch::{Device, Kind, Tensor};

use super::images::{Batch, Batches, Images, Order};
use super::prefetcher::Prefetcher;
use crate::data::{Cropping, ImageFolder, crop};
use crate::error::{Error, Result};
use crate::seed;

/// Batches that lie ready beyond the one at work, for each thread that makes them.
const AHEAD_PER_WORKER: usize = 2;

/// Images per step of an evaluation: fewer than of a data set in memory, since they are larger.
const EVALUATION_BATCH: usize = 128;

/// The share of a set's images that may be unreadable before a run stops.
pub const TOLERATED_SHARE: f64 = 1e-3;

/// Images in files, decoded, cropped and, for training, augmented by threads of their own.
#[derive(Debug)]
pub struct ImageFiles {
    shared: Arc<Shared>,
    /// `[1, 3, side, side]`, of intensities from 0 to 255.
    mean: Tensor,
    device: Device,
    workers: usize,
}

#[derive(Debug)]
struct Shared {
    folder: ImageFolder,
    cropping: Cropping,
    side: usize,
    /// Files that could not be decoded, each told once.
    broken: Mutex<BTreeSet<PathBuf>>,
    tolerated: usize,
}

/// A batch as the threads make it.
struct Raw {
    /// `[images, 3, side, side]`.
    pixels: Vec<u8>,
    labels: Vec<i64>,
}

impl ImageFiles {
    /// Images of `folder`, from which `mean` (`[3, side, side]`) is subtracted. As many threads as there
    /// are cores read them.
    ///
    /// # Errors
    /// A mean of another size.
    pub fn new(
        folder: ImageFolder,
        cropping: &Cropping,
        side: usize,
        mean: &[f32],
        device: Device,
    ) -> Result<Self> {
        if mean.len() != 3 * side * side {
            let expected = format!("a mean image of 3x{side}x{side}");
            return Err(Error::argument("read images", expected, format!("{} values", mean.len())));
        }
        let shape = [1, 3, side as i64, side as i64];
        let mean =
            Tensor::f_from_slice(mean).and_then(|mean| mean.f_reshape(shape)?.f_to_device(device));
        let mean = mean.map_err(Error::torch("copy the mean image"))?;
        let tolerated = (TOLERATED_SHARE * folder.files().len() as f64) as usize;
        let broken = Mutex::new(BTreeSet::new());
        let shared = Shared { folder, cropping: cropping.clone(), side, broken, tolerated };
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { shared: Arc::new(shared), mean, device, workers })
    }

    /// The same with another number of threads.
    pub fn with_workers(self, workers: usize) -> Self {
        Self { workers: workers.max(1), ..self }
    }

    /// Files that could not be decoded so far.
    pub fn broken(&self) -> Vec<PathBuf> {
        self.shared.broken().iter().cloned().collect()
    }

    fn to_device(&self, raw: &Raw) -> Result<Batch> {
        let side = self.shared.side as i64;
        let shape = [raw.labels.len() as i64, 3, side, side];
        let copy = || {
            let pixels = Tensor::f_from_slice(&raw.pixels)?.f_reshape(shape)?;
            let images =
                pixels.f_to_device(self.device)?.f_to_kind(Kind::Float)?.f_sub(&self.mean)?;
            Ok(Batch {
                images,
                labels: Tensor::f_from_slice(&raw.labels)?.f_to_device(self.device)?,
            })
        };
        copy().map_err(Error::torch("copy a batch"))
    }
}

impl Shared {
    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the images at `places`; those that cannot be decoded are left out.
    fn read(&self, places: &[i64], order: Order) -> Result<Raw> {
        let mut raw = Raw { pixels: Vec::new(), labels: Vec::new() };
        for &place in places {
            let file = &self.folder.files()[place as usize];
            match self.read_one(place, order) {
                Ok(pixels) => {
                    raw.pixels.extend_from_slice(&pixels);
                    raw.labels.push(file.class as i64);
                }
                Err(error @ (Error::Malformed { .. } | Error::Io { .. })) => {
                    let mut broken = self.broken();
                    if broken.insert(file.path.clone()) {
                        eprintln!("left out: {error}");
                    }
                    if broken.len() > self.tolerated {
                        let (count, total) = (broken.len(), self.folder.files().len());
                        let root = self.folder.root().display().to_string();
                        let expected = format!("at most {} unreadable images", self.tolerated);
                        let found = format!("{count} of {total}, the last: {error}");
                        return Err(Error::malformed(root, expected, found));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(raw)
    }

    fn read_one(&self, place: i64, order: Order) -> Result<Vec<u8>> {
        let image = crop::decode(&self.folder.files()[place as usize].path)?;
        match order {
            Order::Stored => crop::centre_crop(&image, self.side, self.cropping.resize),
            Order::Shuffled { seed, place: [stage, epoch] } => {
                // A stream for each image: which thread reads it changes nothing.
                let mut rng = seed::stream(seed, "augment", &[stage, epoch, place as u64]);
                crop::training_crop(&image, self.side, self.cropping.least_area, &mut rng)
            }
        }
    }
}

impl Images for ImageFiles {
    fn len(&self) -> usize {
        self.shared.folder.files().len()
    }

    fn batches(&self, order: Order, size: usize) -> Result<Batches<'_>> {
        let size = size.max(1);
        let places = order.places(self.len());
        let shared = Arc::clone(&self.shared);
        let count = places.len().div_ceil(size);
        let read = move |index: usize| {
            let last = places.len().min((index + 1) * size);
            shared.read(&places[index * size..last], order)
        };
        let ahead = Prefetcher::new(count, self.workers, AHEAD_PER_WORKER * self.workers, read);
        let filled = ahead.filter(|raw| !matches!(raw, Ok(raw) if raw.labels.is_empty()));
        Ok(Box::new(filled.map(|raw| self.to_device(&raw?))))
    }

    fn evaluation_batch(&self) -> usize {
        EVALUATION_BATCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SyntheticCounts, synthetic_image_folder};
    use std::path::Path;

    const CROPPING: Cropping = Cropping { resize: 40, least_area: 0.3 };
    const SIDE: usize = 32;

    fn images(root: &Path, workers: usize) -> ImageFiles {
        let folder = ImageFolder::open(&root.join("train")).unwrap();
        let mean = crop::mean_image(&folder, SIDE, CROPPING.resize).unwrap();
        let images = ImageFiles::new(folder, &CROPPING, SIDE, &mean, Device::Cpu).unwrap();
        images.with_workers(workers)
    }

    fn small_folder(train: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        synthetic_image_folder(root.path(), SyntheticCounts { train, test: 10 }, 3).unwrap();
        root
    }

    /// The labels and the sum of the pixels of each batch.
    fn pass(images: &ImageFiles, order: Order) -> Result<Vec<(Vec<i64>, f64)>> {
        let batches = images.batches(order, 8)?;
        batches
            .map(|batch| {
                let batch = batch?;
                assert_eq!(batch.images.size()[1..], [3, SIDE as i64, SIDE as i64]);
                let sum = batch.images.sum(Kind::Double).double_value(&[]);
                Ok((Vec::<i64>::try_from(&batch.labels).unwrap(), sum))
            })
            .collect()
    }

    #[test]
    fn a_pass_is_the_same_on_any_number_of_threads_and_another_each_epoch() {
        let root = small_folder(50);
        let order = |epoch| Order::Shuffled { seed: 1, place: [0, epoch] };
        let one = pass(&images(root.path(), 1), order(1)).unwrap();
        assert_eq!(one.len(), 7);
        assert_eq!(one, pass(&images(root.path(), 3), order(1)).unwrap());
        assert_ne!(one, pass(&images(root.path(), 3), order(2)).unwrap());
        let stored = pass(&images(root.path(), 2), Order::Stored).unwrap();
        assert_eq!(stored[0].0, [0, 0, 0, 0, 0, 1, 1, 1]);
        let mut labels: Vec<i64> = one.into_iter().flat_map(|(labels, _)| labels).collect();
        labels.sort_unstable();
        assert_eq!(labels, stored.into_iter().flat_map(|(labels, _)| labels).collect::<Vec<_>>());
        // The mean image is that of these very images.
        let sum: f64 =
            pass(&images(root.path(), 2), Order::Stored).unwrap().iter().map(|(_, sum)| sum).sum();
        assert!(sum.abs() / (50.0 * 3.0 * 1024.0) < 1e-3, "{sum}");
    }

    #[test]
    fn broken_images_are_left_out_by_name_and_too_many_are_an_error() {
        let root = small_folder(1000);
        let images = images(root.path(), 2);
        let break_one = |index: usize| {
            let path = &images.shared.folder.files()[index].path;
            std::fs::write(path, "no image").unwrap();
            path.clone()
        };
        let first = break_one(3);
        let labels: usize =
            pass(&images, Order::Stored).unwrap().iter().map(|(l, _)| l.len()).sum();
        assert_eq!((labels, images.broken()), (999, vec![first]));
        // One in a thousand is tolerated; it is not counted twice.
        assert!(pass(&images, Order::Stored).is_ok());
        break_one(500);
        let error = pass(&images, Order::Stored).unwrap_err().to_string();
        assert!(
            error.contains("at most 1 unreadable images") && error.contains("2 of 1000"),
            "{error}"
        );
    }
}
