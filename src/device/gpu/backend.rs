//! What backends have in common, that is, implementations of [`Gpu`]: recording the steps of a thread, and checks
//! that are the same for all.

use std::cell::RefCell;

use super::{Buffer, Gpu, Launch, Limits, Step};
use crate::error::{Error, Result};

thread_local! {
    /// The device (its address) whose steps this thread records, and those recorded so far.
    static RECORDING: RefCell<Option<(usize, Vec<Step>)>> = const { RefCell::new(None) };
}

fn address(gpu: &impl Gpu) -> usize {
    std::ptr::from_ref(gpu).addr()
}

/// Notes a step where this thread records those of `gpu`; says whether it does.
pub fn is_recorded(gpu: &impl Gpu, step: &Step) -> bool {
    RECORDING.with_borrow_mut(|recording| match recording {
        Some((device, steps)) if *device == address(gpu) => {
            steps.push(step.clone());
            true
        }
        _ => false,
    })
}

/// Whether this thread records the steps of `gpu`.
pub fn is_recording(gpu: &impl Gpu) -> bool {
    RECORDING.with_borrow(|recording| {
        recording.as_ref().is_some_and(|(device, _)| *device == address(gpu))
    })
}

/// The steps that `work` enqueues on `gpu` from this thread.
///
/// # Errors
/// What `work` says; a recording inside another.
pub fn recorded(gpu: &impl Gpu, work: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Step>> {
    if RECORDING.with_borrow(Option::is_some) {
        let expected = "one recording at a time";
        return Err(Error::argument("record steps", expected, "a recording inside another"));
    }
    RECORDING.set(Some((address(gpu), Vec::new())));
    /// Ends the recording however `work` ends.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            RECORDING.set(None);
        }
    }
    let _end = End;
    work()?;
    Ok(RECORDING.take().map(|(_, steps)| steps).unwrap_or_default())
}

/// Refuses what no GPU takes; what remains to be checked is the device's own.
///
/// # Errors
/// More blocks or buffers than the limits allow.
pub fn check_launch(launch: &Launch<'_>, limits: &Limits) -> Result<()> {
    if launch.grid.iter().any(|&blocks| blocks > limits.grid) {
        let expected = format!("at most {} blocks along each side of a grid", limits.grid);
        return Err(Error::argument("launch", expected, format!("{:?}", launch.grid)));
    }
    if launch.buffers.len() > limits.buffers as usize {
        let expected = format!("at most {} buffers", limits.buffers);
        return Err(Error::argument("launch", expected, launch.buffers.len().to_string()));
    }
    Ok(())
}

/// Refuses a buffer larger than the device binds.
///
/// # Errors
/// It is larger.
pub fn check_bytes(bytes: usize, limits: &Limits) -> Result<()> {
    if bytes <= limits.buffer_bytes {
        return Ok(());
    }
    let expected =
        format!("a buffer of at most {} bytes, as the device binds", limits.buffer_bytes);
    Err(Error::argument("allocate", expected, bytes.to_string()))
}

/// Refuses a copy between buffers of which one is too small.
///
/// # Errors
/// One is.
pub fn check_copy(from: &Buffer, to: &Buffer, bytes: usize) -> Result<()> {
    check_room(from, bytes)?;
    check_room(to, bytes)
}

/// Refuses bytes that a buffer has no room for.
///
/// # Errors
/// It has no room for them.
pub fn check_room(buffer: &Buffer, bytes: usize) -> Result<()> {
    if bytes <= buffer.bytes() {
        return Ok(());
    }
    let expected = format!("at most the {} bytes of the buffer", buffer.bytes());
    Err(Error::argument("copy", expected, bytes.to_string()))
}
