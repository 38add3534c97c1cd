//! The threads of a block as fibers of one thread: each runs until it waits for others.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}

/// `ShimState` of shim.h.
#[repr(C)]
pub(super) struct State {
    pub thread: Place,
    pub block: Place,
    pub threads: Place,
    pub blocks: Place,
    pub serial: u32,
    pub pause: extern "C" fn(c_int, c_int, *const c_char),
}

/// Why a fiber stopped.
#[derive(Clone, Debug, PartialEq)]
enum Pause {
    Block(i32),
    Warp(i32),
    Fault(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Fiber {
    Ready,
    Waits(Pause),
    Done,
}

thread_local! {
    static YIELDER: Cell<*const Yielder<(), Pause>> = const { Cell::new(std::ptr::null()) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

pub(super) extern "C" fn pause(kind: c_int, site: c_int, message: *const c_char) {
    let why = match kind {
        0 => Pause::Block(site),
        1 => Pause::Warp(site),
        // SAFETY: shim.h gives a string.
        _ => Pause::Fault(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()),
    };
    let own = YIELDER.get();
    // SAFETY: set by the fiber that calls this, before it called the kernel, and again whenever it is
    // resumed; it lives as long as the fiber.
    unsafe { (*own).suspend(why) };
}

/// Runs the threads of one block until all are done, or says how they got stuck.
pub(super) fn run_block(
    state: *mut State,
    run: extern "C" fn(*mut *mut c_void),
    arguments: *mut *mut c_void,
    threads: u32,
    descending: bool,
) -> Result<(), String> {
    let mut stacks = STACKS.take();
    let mut fibers: Vec<_> = (0..threads)
        .map(|_| {
            let stack = stacks.pop().map_or_else(|| DefaultStack::new(64 << 10), Ok);
            let body = move |yielder: &Yielder<(), Pause>, ()| {
                YIELDER.set(yielder);
                run(arguments);
            };
            stack.map(|stack| (Coroutine::with_stack(stack, body), std::ptr::null(), Fiber::Ready))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no stack for a thread: {error}"))?;
    let mut order: Vec<usize> = (0..fibers.len()).collect();
    if descending {
        order.reverse();
    }
    let outcome = loop {
        for &index in &order {
            let (coroutine, own, fiber) = &mut fibers[index];
            if *fiber != Fiber::Ready {
                continue;
            }
            // SAFETY: as in `Bound::run`.
            unsafe { (*state).thread = Place { x: index as u32, y: 0, z: 0 } };
            YIELDER.set(*own);
            *fiber = match coroutine.resume(()) {
                CoroutineResult::Yield(why) => Fiber::Waits(why),
                CoroutineResult::Return(()) => Fiber::Done,
            };
            *own = YIELDER.get();
        }
        let states: Vec<&Fiber> = fibers.iter().map(|(_, _, fiber)| fiber).collect();
        if states.iter().all(|&fiber| *fiber == Fiber::Done) {
            break Ok(());
        }
        match released(&states) {
            Ok(ready) => ready.into_iter().for_each(|index| fibers[index].2 = Fiber::Ready),
            Err(stuck) => break Err(stuck),
        }
    };
    for (mut coroutine, _, fiber) in fibers {
        if fiber != Fiber::Done {
            // SAFETY: a kernel holds nothing that has to be dropped.
            unsafe { coroutine.force_reset() };
        }
        stacks.push(coroutine.into_stack());
    }
    STACKS.set(stacks);
    outcome
}

/// Which of the fibers, none of which can run, may go on; else how they are stuck.
fn released(fibers: &[&Fiber]) -> Result<Vec<usize>, String> {
    if let Some(Fiber::Waits(Pause::Fault(message))) =
        fibers.iter().find(|fiber| matches!(fiber, Fiber::Waits(Pause::Fault(_))))
    {
        return Err(message.clone());
    }
    let alike = |fibers: &[&Fiber]| fibers.windows(2).all(|pair| pair[0] == pair[1]);
    if alike(fibers) {
        return Ok((0..fibers.len()).collect());
    }
    let warps = fibers
        .chunks(32)
        .enumerate()
        .filter(|(_, lanes)| matches!(lanes[0], Fiber::Waits(Pause::Warp(_))) && alike(lanes));
    let ready: Vec<usize> =
        warps.flat_map(|(warp, lanes)| warp * 32..warp * 32 + lanes.len()).collect();
    if !ready.is_empty() {
        return Ok(ready);
    }
    let mut places: Vec<String> = fibers.iter().map(|fiber| format!("{fiber:?}")).collect();
    places.dedup();
    Err(format!("a divergent barrier: threads in order stand at {}", places.join(", ")))
}
