//! ZCA whitening: the rotation-free linear map after which features are uncorrelated.
//!
//! With the covariance C = U diag(s) U^T of the centred features, W = U diag((s + regulariser)^-1/2) U^T,
//! and x becomes W (x - mean). The covariance is then U diag(s / (s + regulariser)) U^T: the identity, up
//! to the regulariser. (Krizhevsky, *Learning multiple layers of features from tiny images*, 2009,
//! appendix A; the regulariser as in Goodfellow et al., *Maxout networks*, 2013.) Eigenvectors come
//! from LAPACK, through libtorch.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::network::Weights;
use crate::torch::{to_array, to_tensor};

/// Rows that are held as f64 at a time.
const BLOCK: usize = 1000;

/// A fitted whitening.
#[derive(Debug)]
pub(super) struct Zca {
    /// `[features]`, f32: the mean of the data that it was fitted on.
    mean: Tensor,
    /// `[features, features]`, f32, symmetric.
    matrix: Tensor,
}

impl Zca {
    /// Fits a whitening on `count` rows. `fill` writes the rows of a range, `[rows, features]`; it is
    /// asked for every row twice. Sums are taken, and eigenvectors found, in f64.
    ///
    /// # Errors
    /// No rows; a regulariser that is not above 0; values that are not finite.
    pub fn fit(
        count: usize,
        features: usize,
        regulariser: f64,
        fill: impl Fn(Range<usize>, &mut [f32]),
    ) -> Result<Self> {
        if count == 0 || !(regulariser > 0.0 && regulariser.is_finite()) {
            let expected = "at least one row and a regulariser above 0";
            let found = format!("{count} rows, {regulariser}");
            return Err(Error::argument("fit a whitening", expected, found));
        }
        let refused = || Error::torch("fit a whitening");
        let mut rows = vec![0_f32; BLOCK.min(count) * features];
        let mut for_blocks = |each: &mut dyn FnMut(Tensor) -> Result<(), tch::TchError>| {
            for first in (0..count).step_by(BLOCK) {
                let range = first..count.min(first + BLOCK);
                let (length, block) = (range.len(), &mut rows[..range.len() * features]);
                fill(range, block);
                let block =
                    Tensor::f_from_slice(block)?.f_view([length as i64, features as i64])?;
                each(block.f_to_kind(Kind::Double)?)?;
            }
            Ok(())
        };
        let zeros =
            |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Double, Device::Cpu)).map_err(refused());
        let mut mean = zeros(&[features as i64])?;
        for_blocks(&mut |block| {
            let sum = block.f_sum_dim_intlist(&[0_i64][..], false, Kind::Double)?;
            mean.f_add_(&sum).map(drop)
        })
        .map_err(refused())?;
        let mean = mean.f_div_scalar(count as f64).map_err(refused())?;

        let mut covariance = zeros(&[features as i64, features as i64])?;
        for_blocks(&mut |block| {
            let centred = block.f_sub(&mean)?;
            covariance.f_addmm_(&centred.f_transpose(0, 1)?, &centred).map(drop)
        })
        .map_err(refused())?;
        let covariance = covariance.f_div_scalar(count as f64).map_err(refused())?;
        let finite = covariance.f_isfinite().and_then(|all| all.f_all()?.f_int64_value(&[]));
        if finite.map_err(refused())? == 0 {
            return Err(Error::argument("fit a whitening", "finite values", "one that is not"));
        }
        let whiten = || {
            let (values, vectors) = covariance.f_linalg_eigh("L")?;
            // Rounding leaves eigenvalues that should be 0 a little below it.
            let scale = values.f_clamp_min(0.0)?.f_add_scalar(regulariser)?.f_rsqrt()?;
            let matrix = vectors.f_mul(&scale)?.f_matmul(&vectors.f_transpose(0, 1)?)?;
            Ok(Self { mean: mean.f_to_kind(Kind::Float)?, matrix: matrix.f_to_kind(Kind::Float)? })
        };
        whiten().map_err(refused())
    }

    /// How many numbers make a row.
    pub fn features(&self) -> usize {
        self.mean.numel()
    }

    /// Whitens rows, `[rows, features]`.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        // The matrix is symmetric but for rounding.
        let whitened = rows.f_sub(&self.mean).and_then(|centred| centred.f_matmul(&self.matrix));
        whitened.map_err(Error::torch("whiten"))
    }

    /// Its arrays, to be stored.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn to_arrays(&self) -> Result<Weights> {
        let mut arrays = Weights::default();
        arrays.insert("mean", to_array(&self.mean)?);
        arrays.insert("matrix", to_array(&self.matrix)?);
        Ok(arrays)
    }

    /// The whitening that was stored; `None` where the arrays are not those of one of `features`.
    pub fn from_arrays(arrays: &Weights, features: usize) -> Option<Self> {
        let tensor = |name: &str, shape: &[usize]| {
            let array = arrays.find(name).filter(|array| array.shape() == shape)?;
            let finite = array.iter().all(|value| value.is_finite());
            finite.then(|| to_tensor(array, Device::Cpu).ok())?
        };
        let (mean, matrix) =
            (tensor("mean", &[features])?, tensor("matrix", &[features, features])?);
        Some(Self { mean, matrix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use rand::RngExt;

    fn fit(rows: &[&[f32]], regulariser: f64) -> Zca {
        let features = rows[0].len();
        let fill = |range: Range<usize>, into: &mut [f32]| {
            for (row, into) in rows[range].iter().zip(into.chunks_exact_mut(features)) {
                into.copy_from_slice(row);
            }
        };
        Zca::fit(rows.len(), features, regulariser, fill).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        to_array(tensor).unwrap().iter().copied().collect()
    }

    #[test]
    fn two_features_are_whitened_as_by_hand() {
        // Centred at (3, 1): (2, 1), (-2, -1), (1, 2), (-1, -2). C = [[2.5, 2], [2, 2.5]] has 4.5 along
        // (1, 1) and .5 along (1, -1). With .5 added, a = 5^-1/2 = .4472136 and b = 1, so
        // W = [[a + b, a - b], [a - b, a + b]] / 2.
        let zca = fit(&[&[5.0, 2.0], &[1.0, 0.0], &[4.0, 3.0], &[2.0, -1.0]], 0.5);
        let (same, other) = (0.723_606_8_f32, -0.276_393_2_f32);
        assert_eq!(values(&zca.mean), [3.0, 1.0]);
        for (found, expected) in values(&zca.matrix).iter().zip([same, other, other, same]) {
            assert_abs_diff_eq!(*found, expected, epsilon = 1e-6);
        }
        let whitened =
            values(&zca.apply(&Tensor::from_slice(&[5.0_f32, 2.0]).view([1, 2])).unwrap());
        assert_abs_diff_eq!(whitened[0], 2.0 * same + other, epsilon = 1e-5);
        assert_abs_diff_eq!(whitened[1], same + 2.0 * other, epsilon = 1e-5);
    }

    #[test]
    fn the_whitened_covariance_is_the_identity_up_to_the_regulariser() {
        const FEATURES: usize = 12;
        let mut rng = crate::seed::stream(1, "zca", &[]);
        let mixing: Vec<f32> =
            (0..FEATURES * FEATURES).map(|_| rng.random_range(-1.0..1.0)).collect();
        let rows: Vec<Vec<f32>> = (0..2500) // blocks, and one that is not full
            .map(|_| {
                let source: Vec<f32> = (0..FEATURES).map(|_| rng.random_range(-1.0..1.0)).collect();
                let mix =
                    |row: &[f32]| 3.0 + row.iter().zip(&source).map(|(a, b)| a * b).sum::<f32>();
                mixing.chunks(FEATURES).map(mix).collect()
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let all = Tensor::from_slice(&rows.concat()).view([-1, FEATURES as i64]);
        let covariance = |regulariser: f64| {
            let whitened = fit(&rows, regulariser).apply(&all).unwrap().to_kind(Kind::Double);
            let mean = whitened.mean_dim(&[0_i64][..], false, Kind::Double);
            assert!(mean.abs().max().double_value(&[]) < 1e-4);
            whitened.transpose(0, 1).matmul(&whitened) / rows.len() as f64
        };
        let identity = Tensor::eye(FEATURES as i64, (Kind::Double, Device::Cpu));
        let apart = (covariance(1e-9) - &identity).abs().max().double_value(&[]);
        assert!(apart < 1e-3, "{apart}");
        // C's eigenvalues s become s / (s + regulariser), whatever the directions.
        let (values, _) = covariance(1.0).linalg_eigh("L");
        let centred = all.to_kind(Kind::Double)
            - all.to_kind(Kind::Double).mean_dim(&[0_i64][..], false, Kind::Double);
        let (before, _) =
            (centred.transpose(0, 1).matmul(&centred) / rows.len() as f64).linalg_eigh("L");
        let apart = (values - &before / (&before + 1.0)).abs().max().double_value(&[]);
        assert!(apart < 1e-3, "{apart}");
    }

    #[test]
    fn fewer_rows_than_features_are_no_obstacle_and_bad_ones_are_refused() {
        let zca = fit(&[&[1.0, 0.0, 0.0], &[-1.0, 0.0, 0.0]], 0.01);
        assert!(values(&zca.matrix).iter().all(|value| value.is_finite()));
        assert!(Zca::fit(0, 3, 0.1, |_, _| {}).is_err());
        assert!(Zca::fit(2, 3, 0.0, |_, _| {}).is_err());
        assert!(Zca::fit(2, 3, 0.1, |_, rows| rows.fill(f32::NAN)).is_err());
    }

    #[test]
    fn arrays_of_another_size_are_no_whitening() {
        let zca = fit(&[&[1.0, 0.5], &[-1.0, 2.0], &[0.0, 1.0]], 0.01);
        let arrays = zca.to_arrays().unwrap();
        let again = Zca::from_arrays(&arrays, 2).unwrap();
        assert_eq!(values(&again.matrix), values(&zca.matrix));
        assert!(Zca::from_arrays(&arrays, 3).is_none());
    }
}
