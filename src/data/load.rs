//! The data sets that have a name.

use super::dataset::Data;
use super::{SyntheticCounts, cifar, fetch, imagenet, mnist, synthetic, synthetic_digits};
use crate::error::{Error, Result};

/// Which images to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// The real ones; where neither a folder nor the network has them, synthetic ones with a
    /// loud line.
    Real,
    /// Synthetic ones.
    Synthetic,
}

/// The data set of that name: `mnist`, `cifar-10` or `imagenet`. Of synthetic digits, only the first `train_images` to
/// learn from are drawn where that is given: the same ones, since each is drawn from a seed of its own.
///
/// # Errors
/// An unknown name; a data set that is not there; a file that is damaged, swapped or of another format.
pub fn load(name: &str, source: Source, train_images: Option<usize>) -> Result<Data> {
    let first = |counts: SyntheticCounts| SyntheticCounts {
        train: counts.train.min(train_images.unwrap_or(usize::MAX)),
        ..counts
    };
    let places = fetch::Places::from_environment;
    match (name, source) {
        ("mnist", Source::Real) => mnist::load(&places()?).map(Data::Memory),
        ("mnist", Source::Synthetic) => {
            Ok(synthetic_digits(first(SyntheticCounts::LIKE_MNIST), synthetic::SEED).into())
        }
        ("cifar-10", Source::Real) => cifar::load(&places()?).map(Data::Memory),
        ("cifar-10", Source::Synthetic) => {
            let counts = first(SyntheticCounts::LIKE_CIFAR_10);
            Ok(synthetic::coloured_digits(counts, synthetic::SEED).into())
        }
        ("imagenet", Source::Real) => imagenet::load(&places()?).map(Data::Files),
        ("imagenet", Source::Synthetic) => imagenet::synthetic(&places()?).map(Data::Files),
        _ => Err(Error::argument("data set", "mnist, cifar-10 or imagenet", name)),
    }
}

/// The name of what [`Source::Synthetic`] puts in the place of a data set.
pub fn synthetic_name(name: &str) -> &str {
    match name {
        "mnist" => "synthetic-digits",
        "cifar-10" => "synthetic-coloured-digits",
        "imagenet" => "synthetic-images",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_are_not_asked_for_are_not_drawn_and_the_others_are_the_same() {
        let load = |name, most| match load(name, Source::Synthetic, most).unwrap() {
            Data::Memory(data) => data,
            Data::Files(_) => panic!("{name} lies in memory"),
        };
        for name in ["mnist", "cifar-10"] {
            let (few, more) = (load(name, Some(3)), load(name, Some(20)));
            assert_eq!((few.train.len(), more.train.len()), (3, 20));
            assert_eq!(few.train, more.train.range(0..3));
            assert_eq!((few.test.len(), &few.test), (10_000, &more.test));
        }
    }
}
