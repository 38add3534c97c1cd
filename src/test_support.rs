//! Tests of what a machine may lack: skipped in the open, or required.

/// The variable that lists, separated by commas, what must not be skipped: `data`, `mkl`, `openblas`,
/// `blis`, `wgpu`, `nvrtc`, `cuda-shim`, `cuda`, `pytorch`, `chromium`.
pub const VARIABLE: &str = "SCALPEL_REQUIRE";

/// Reports that a test is skipped since `what` is absent.
///
/// # Panics
/// Where `SCALPEL_REQUIRE` lists `what`: the skip is then a failure.
pub fn skip(what: &str, reason: &str) {
    let required = std::env::var(VARIABLE).unwrap_or_default();
    assert!(!lists(&required, what), "{VARIABLE} asks for {what}: {reason}");
    eprintln!("skipped: {what}: {reason}");
}

fn lists(required: &str, what: &str) -> bool {
    required.split(',').any(|item| item.trim() == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_required() {
        assert!(lists("data, wgpu", "wgpu") && !lists("data,wgpu", "cuda") && !lists("", "data"));
    }
}
