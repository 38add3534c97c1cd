//! What becomes of memory that libtorch frees.

use std::sync::Once;

/// Lets freed memory stay with the process. Each step of training frees its activations and asks for as many
/// again; glibc hands blocks of their size back to the system, and every page of them is cleared and mapped
/// anew in the next step, a good part of its time where activations are large.
/// The process keeps the most that it used since [`give_back`]; of blocks over 64 MiB, those of its main thread,
/// in which experiments train. Where the allocator is another one, nothing happens.
pub(super) fn keep_freed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        for (parameter, value) in [
            (libc::M_MMAP_MAX, 0),        // no block gets a mapping of its own
            (libc::M_TRIM_THRESHOLD, -1), // the heap never shrinks
            (libc::M_TOP_PAD, 64 << 20),  // and grows by this much more than is asked for
        ] {
            // SAFETY: it takes two numbers, and glibc locks the arena while it sets them. An older
            // glibc that does not know one says so by 0, and goes on as before.
            unsafe { libc::mallopt(parameter, value) };
        }
    });
}

/// Hands back to the system what is free, wherever it lies in the heap. Between an epoch's training and its
/// scoring, which ask for blocks of other sizes, what one leaves would else stay beside what the other takes.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number, and glibc locks each arena while it looks through it.
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::process::Command;

    /// Pages that the system has mapped for this thread by now.
    fn faults() -> usize {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_the_name = stat.rsplit(')').next().unwrap();
        after_the_name.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Set in the process that runs the test alone.
    const ALONE: &str = "SCALPEL_TEST_ALONE";

    #[test]
    fn a_block_as_large_as_a_freed_one_is_mapped_already_until_what_is_free_is_given_back() {
        // In a process of its own: other tests allocate and free in the same arenas.
        if std::env::var_os(ALONE).is_none() {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["torch::memory::tests::a_block", "--test-threads=1"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        keep_freed();
        let fill = |bytes: usize| {
            let before = faults();
            black_box(vec![1_u8; bytes]);
            faults() - before
        };
        fill(48 << 20);
        fill(48 << 20);
        // A mapping of its own would be two dozen huge pages, or twelve thousand others.
        assert!(fill(48 << 20) < 10);

        // In the midst of the heap, where glibc's own trimming does not look.
        let block = black_box(vec![1_u8; 32 << 20]);
        let after = black_box(vec![1_u8; 1 << 20]);
        drop(block);
        let kept = fill(24 << 20);
        give_back();
        let given_back = fill(24 << 20);
        drop(black_box(after));
        assert!(kept < 10 && given_back >= 10, "{kept} and {given_back} pages");
    }
}
