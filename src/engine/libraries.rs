//! Other libraries that may run layers with dense weights.

use std::sync::Arc;

use crate::kernels::convolution::ConvLibrary;
use crate::kernels::library_gemm::DenseLibrary;

/// Libraries that may take layers with dense weights on a CPU, where they are the fastest.
#[derive(Clone, Copy, Default)]
pub struct DenseLibraries<'a> {
    /// Those whose products may take dense layers and, with pixels gathered, convolutions.
    pub products: &'a [Arc<dyn DenseLibrary>],
    /// Those whose own convolutions may take convolutions.
    pub convolutions: &'a [Arc<dyn ConvLibrary>],
}
