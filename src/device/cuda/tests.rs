use super::*;

#[test]
fn an_absent_driver_is_an_error_that_says_what_to_do() {
    match Cuda::new(0) {
        Ok(gpu) => assert!(gpu.limits().multiprocessors > 0),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("is not available") && text.contains("install"), "{text}");
        }
    }
}
