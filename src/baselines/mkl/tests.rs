use super::*;
use crate::test_support;

#[test]
fn its_products_are_those_of_plain_loops() {
    match Mkl::load(1) {
        Ok(mkl) => super::super::tests::check(&MklProducts(mkl)),
        Err(error) => test_support::skip("mkl", &error.to_string()),
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let Ok(mkl) = Mkl::load(1) else { return test_support::skip("mkl", "absent") };
    let error = mkl.multiply([2, 2, 2], &[0.0; 4], &[0.0; 4], &mut [0.0; 3]).unwrap_err();
    assert!(matches!(error, Error::Length { argument: "y", expected: 4, found: 3, .. }), "{error}");
}
