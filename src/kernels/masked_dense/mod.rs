//! Draft.
use crate::error::Result;
/// A library's dense product.
pub trait DenseLibrary: Send + Sync {
    /// The library and its version.
    fn name(&self) -> String;
    /// y = w x.
    ///
    /// # Errors
    /// Lengths.
    fn multiply(&self, shape: [usize; 3], w: &[f32], x: &[f32], y: &mut [f32]) -> Result<()>;
}
