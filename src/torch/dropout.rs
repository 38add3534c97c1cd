//! Dropout in training.

use tch::{Kind, TchError, Tensor};

/// The numbers that 16 random bits can be.
const DRAWS: f64 = 65536.0;

/// Sets each number of `x` to 0 with probability `rate`, to within 1/65536, and divides the others by 1 - `rate`.
/// `rate` is a single number below 1 on the device of `x`: nothing waits for its value. The strides of `x` leave no gaps.
///
/// libtorch's own dropout on a CPU draws for each number by itself, on one thread: a tenth of the time of NIN's training
/// step in bf16, two threads (AMD EPYC, family 25, model 17), most of which this saves. Here one draw of its stream
/// decides about four numbers, and all threads compare.
///
/// # Errors
/// Whatever libtorch refuses.
pub(super) fn dropout(x: &Tensor, rate: &Tensor) -> Result<Tensor, TchError> {
    let draws = x.numel().div_ceil(4) as i64;
    let mut draws = Tensor::f_empty([draws], (Kind::Int64, x.device()))?;
    let bits = draws.f_random_from_(i64::MIN, None)?.f_view_dtype(Kind::Int16)?;
    let bits = bits.f_as_strided(x.size(), x.stride(), None)?;

    let threshold = rate.f_mul_scalar(DRAWS)?.f_sub_scalar(DRAWS / 2.0)?.f_round()?;
    let threshold = threshold.f_clamp_max(f64::from(i16::MAX))?.f_to_kind(Kind::Int16)?;
    let kept = bits.f_ge_tensor(&threshold)?;
    let scale = rate.f_rsub_scalar(1.0)?.f_reciprocal()?.f_to_kind(x.kind())?;
    x.f_mul(&kept.f_to_kind(x.kind())?.f_mul_(&scale)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::MemoryFormat;
    use tch::Device;

    const HERE: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn the_rates_share_is_lost_and_the_others_make_up_for_it() {
        for (rate, seed) in [(0.0, 1), (0.5, 2), (0.3229, 3), (0.999_999, 4)] {
            tch::manual_seed(seed);
            let x = Tensor::ones([1001, 999], HERE);
            let y = dropout(&x, &Tensor::from(rate as f32)).unwrap();
            let kept = y.ne(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            assert!((kept - (1.0 - rate)).abs() < 0.002, "{kept} of {}", 1.0 - rate);
            if rate < 0.9 {
                approx::assert_relative_eq!(
                    y.max().double_value(&[]),
                    1.0 / (1.0 - rate),
                    epsilon = 1e-6
                );
            }
        }
    }

    #[test]
    fn each_number_is_drawn_by_itself_whatever_the_strides() {
        tch::manual_seed(1);
        let x = Tensor::ones([5, 3, 13, 11], HERE);
        let x = MemoryFormat::ChannelsLast.of(&x).unwrap();
        let rate = Tensor::from(0.5_f32);
        let mut sum = x.zeros_like();
        for _ in 0..400 {
            let y = dropout(&x, &rate).unwrap();
            assert_eq!(y.stride(), x.stride());
            sum += y;
        }
        // A mean of 400 twos and zeros deviates by .05.
        let deviations: Tensor = (sum / 400.0 - 1.0) / 0.05;
        assert!(deviations.abs().max().double_value(&[]) < 5.0);
        approx::assert_abs_diff_eq!(deviations.std(true).double_value(&[]), 1.0, epsilon = 0.08);
    }

    #[test]
    fn gradients_pass_where_numbers_did_in_bf16_too() {
        for kind in [Kind::Float, Kind::BFloat16] {
            tch::manual_seed(1);
            let x = Tensor::rand([33, 7], HERE).to_kind(kind).set_requires_grad(true);
            let y = dropout(&x, &Tensor::from(0.5_f32)).unwrap();
            assert_eq!(y.kind(), kind);
            let gradients = Tensor::run_backward(&[y.sum(Kind::Float)], &[&x], false, false);
            assert!(gradients[0].equal(&(y.ne(0.0).to_kind(kind) * 2.0)));
        }
    }
}
