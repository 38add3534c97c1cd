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

/// Bytes of a core's own caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// First level, of data.
    pub l1: usize,
    /// Second level.
    pub l2: usize,
}

/// The caches of this processor's cores, as it says; the least that processors of today have, where it does not.
pub fn caches() -> Caches {
    static CACHES: std::sync::OnceLock<Caches> = std::sync::OnceLock::new();
    *CACHES.get_or_init(|| found_caches().unwrap_or(Caches { l1: 32 << 10, l2: 256 << 10 }))
}

#[cfg(target_arch = "x86_64")]
fn found_caches() -> Option<Caches> {
    use raw_cpuid::CacheType;
    let all: Vec<_> = raw_cpuid::CpuId::new().get_cache_parameters()?.collect();
    let bytes = |level: u8| {
        let holds_data = |kind| matches!(kind, CacheType::Data | CacheType::Unified);
        let cache = all.iter().find(|own| own.level() == level && holds_data(own.cache_type()))?;
        let ways = cache.associativity() * cache.physical_line_partitions();
        Some(ways * cache.coherency_line_size() * cache.sets()).filter(|&bytes| bytes > 0)
    };
    Some(Caches { l1: bytes(1)?, l2: bytes(2)? })
}

#[cfg(not(target_arch = "x86_64"))]
fn found_caches() -> Option<Caches> {
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_of_sizes_that_there_are() {
        let Caches { l1, l2 } = caches();
        assert!((16 << 10..1 << 20).contains(&l1), "{l1}");
        assert!((128 << 10..64 << 20).contains(&l2) && l2 > l1, "{l2}");
    }
}
