//! The processor's instruction sets, found at run time.
//!
//! A value of [`Avx2`] or [`Avx512`] exists only where the processor has those instructions: it is the
//! proof that makes a kernel compiled for them safe to call.

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where this processor has them.
    pub fn new() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            return Some(Self(()));
        }
        None
    }

    /// The proof, for what was compiled for them and so cannot ask.
    ///
    /// # Safety
    /// This processor has AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn promised() -> Self {
        Self(())
    }
}

/// Proof of AVX-512F, and of AVX2 and FMA with it.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, where this processor has them.
    pub fn new() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") && Avx2::new().is_some() {
            return Some(Self(()));
        }
        None
    }

    /// The proof, for what was compiled for it and so cannot ask.
    ///
    /// # Safety
    /// This processor has AVX-512F.
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn promised() -> Self {
        Self(())
    }
}

/// The instruction sets that our kernels know of and this processor has.
pub fn instruction_sets() -> Vec<&'static str> {
    let known = [("avx2+fma", Avx2::new().is_some()), ("avx512f", Avx512::new().is_some())];
    known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

/// Whether this processor has instructions that multiply bf16; libtorch emulates them elsewhere.
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}
