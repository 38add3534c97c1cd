//! CUDA's run-time compiler: from a `.cu` file to machine code for one architecture. It needs no GPU.

use std::ffi::{CStr, CString, c_char};

use cudarc::nvrtc::sys;

pub use super::libraries::nvrtc as available;
use crate::device::gpu::{CUDA_HEADER, Source};
use crate::error::{Error, Result};

/// Machine code, and what the assembler said about it.
#[derive(Clone, Debug)]
pub struct Image {
    /// A cubin of one architecture.
    pub code: Vec<u8>,
    /// The compiler's and the assembler's log.
    pub log: String,
}

/// What a function takes of a multiprocessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The function.
    pub function: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's registers that are stored to memory for want of more.
    pub spills: u32,
}

impl Image {
    /// What the assembler says of each function.
    pub fn usage(&self) -> Vec<Usage> {
        let mut found: Vec<Usage> = Vec::new();
        for line in self.log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let before = |word: &str| {
                let place = words.iter().position(|found| found.starts_with(word))?;
                words.get(place.checked_sub(1)?)?.parse::<u32>().ok()
            };
            if let Some((_, function)) = line.split_once("Compiling entry function '") {
                let function = function.split('\'').next().unwrap_or_default().to_owned();
                found.push(Usage { function, registers: 0, spills: 0 });
            } else if let Some(usage) = found.last_mut() {
                if line.contains("bytes spill stores") {
                    let place = words.iter().position(|&word| word == "spill");
                    let bytes =
                        place.and_then(|place| words.get(place.checked_sub(2)?)?.parse().ok());
                    usage.spills = bytes.unwrap_or(0);
                }
                if let Some(registers) = before("registers") {
                    usage.registers = registers;
                }
            }
        }
        found
    }
}

/// Compiles a program for an architecture such as `sm_90`.
///
/// # Errors
/// NVRTC is not here; it refuses the program: the error has its log.
pub fn compile(source: &Source<'_>, architecture: &str) -> Result<Image> {
    available()?;
    let (name, body) = (text(&format!("{}.cu", source.stem))?, text(source.cuda()?)?);
    let (header_name, header) = (text(CUDA_HEADER.0)?, text(CUDA_HEADER.1)?);
    let mut options = vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".into(),
        "--ptxas-options=-v".into(),
        "--extra-device-vectorization".into(),
    ];
    options.extend(source.all_constants().map(|(name, value)| format!("-D{name}={value}")));
    let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>>>()?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();

    let mut program = Program(std::ptr::null_mut());
    // SAFETY: the library is present; all strings outlive the call.
    let created = unsafe {
        sys::nvrtcCreateProgram(
            &raw mut program.0,
            body.as_ptr(),
            name.as_ptr(),
            1,
            [header.as_ptr()].as_ptr(),
            [header_name.as_ptr()].as_ptr(),
        )
    };
    check(source, created, "create a program")?;
    // SAFETY: the program has been created, the options outlive the call.
    let compiled =
        unsafe { sys::nvrtcCompileProgram(program.0, options.len() as i32, options.as_ptr()) };
    let log = program.log();
    if compiled != sys::nvrtcResult::NVRTC_SUCCESS {
        let what = format!("cuda/{}.cu for {architecture}", source.stem);
        return Err(Error::malformed(
            what,
            "a program that NVRTC compiles",
            format!("{compiled:?}:\n{log}"),
        ));
    }
    Ok(Image { code: program.code(source)?, log })
}

struct Program(sys::nvrtcProgram);

impl Program {
    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: the program has been created; the buffer has the size that NVRTC asks for.
        unsafe {
            if sys::nvrtcGetProgramLogSize(self.0, &raw mut size) != sys::nvrtcResult::NVRTC_SUCCESS
            {
                return String::new();
            }
            let mut log = vec![0_u8; size];
            sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast());
            CStr::from_bytes_until_nul(&log)
                .map_or(String::new(), |log| log.to_string_lossy().into())
        }
    }

    fn code(&self, source: &Source<'_>) -> Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the program has been compiled; the buffer has the size that NVRTC asks for.
        unsafe {
            check(source, sys::nvrtcGetCUBINSize(self.0, &raw mut size), "measure its code")?;
            let mut code = vec![0_u8; size];
            check(source, sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()), "read its code")?;
            Ok(code)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it has been created and is not used again.
            unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
        }
    }
}

fn check(source: &Source<'_>, result: sys::nvrtcResult, operation: &str) -> Result<()> {
    if result == sys::nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    let what = format!("cuda/{}.cu", source.stem);
    Err(Error::malformed(what, format!("NVRTC to {operation}"), format!("{result:?}")))
}

fn text(source: &str) -> Result<CString> {
    CString::new(source).map_err(|_| Error::malformed("a CUDA source", "no NUL byte", "one"))
}
