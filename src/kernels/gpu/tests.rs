use super::*;

#[test]
fn operands_know_their_extent() {
    // A 3x3 image in a map of pitch 5, every second pixel of every second row.
    let columns = ColumnLayout { width: 2, kept: 2, line_stride: 10, stride: 2 };
    let operand = Operand { rows: vec![0, 25], columns, image: 50 };
    assert_eq!(operand.floats(4, 2).unwrap(), 50 + 25 + 10 + 2 + 1);
    assert_eq!(operand.floats(0, 2).unwrap(), 0);
    assert!(!operand.is_vectors(4));
    assert!(Operand::plain(3, 8).is_vectors(8) && !Operand::plain(3, 6).is_vectors(6));
    let far = Operand { image: u32::MAX, ..operand };
    assert!(far.floats(4, 3).is_err());
}

#[test]
fn weights_larger_than_a_buffer_are_split() {
    let gpu = crate::device::compile_only::CompileOnly::new(Language::Cuda, |_| Ok(String::new()));
    let limit = gpu.limits().buffer_bytes;
    let found = panels("test", 5, |_| limit / 2, &gpu).unwrap();
    assert_eq!(found, [0..2, 2..4, 4..5]);
    assert_eq!(panels("test", 0, |_| 1, &gpu).unwrap().len(), 1, "a launch of no rows");
    assert!(panels("test", 1, |_| limit + 1, &gpu).is_err());
}
