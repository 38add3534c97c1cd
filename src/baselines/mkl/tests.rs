use super::*;
use crate::test_support;

#[test]
fn its_products_are_those_of_plain_loops() {
    match Mkl::load(1) {
        Ok(mkl) => {
            super::super::tests::check_dense(Arc::clone(&mkl) as _);
            super::super::tests::check(&MklProducts(mkl));
        }
        Err(error) => test_support::skip("mkl", &error.to_string()),
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let Ok(mkl) = Mkl::load(1) else { return test_support::skip("mkl", "absent") };
    let multiply = |x: &[f32], y: &mut [f32], stride| {
        let (x, y) = (Strided { values: x, stride: 2 }, Strided { values: y, stride });
        mkl.multiply([2, 2, 2], &[0.0; 4], x, y)
    };
    let error = multiply(&[0.0; 4], &mut [0.0; 4], 3).unwrap_err();
    assert!(matches!(error, Error::Length { argument: "y", .. }), "{error}");
    assert!(multiply(&[0.0; 3], &mut [0.0; 4], 2).is_err());
    assert!(multiply(&[0.0; 4], &mut [0.0; 4], 1).is_err(), "rows that overlap");
    let mut y = [-1.0; 5];
    multiply(&[0.0; 4], &mut y, 3).unwrap();
    assert_eq!(y, [0.0, 0.0, -1.0, 0.0, 0.0], "only what lies in a row is written");
}
