//! A GPU that compiles and does nothing else, for tests: what it is asked to run shows every program
//! that the kernels use.

use std::sync::{Mutex, PoisonError};

use super::gpu::{Buffer, Gpu, Language, Launch, Limits, Program, Source, Step};
use crate::error::{Error, Result};

/// Compiles a program and says something about it.
pub(crate) type Compile = fn(&Source<'_>) -> Result<String>;

#[derive(Debug)]
pub(crate) struct CompileOnly {
    language: Language,
    compile: Compile,
    /// What was said about each program, once each.
    said: Mutex<Vec<(String, String)>>,
}

impl CompileOnly {
    pub(crate) fn new(language: Language, compile: Compile) -> Self {
        Self { language, compile, said: Mutex::default() }
    }

    /// A name for each program, and what was said about it.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn said(self) -> Vec<(String, String)> {
        self.said.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gpu for CompileOnly {
    fn language(&self) -> Language {
        self.language
    }

    fn name(&self) -> String {
        "a compiler".into()
    }

    fn limits(&self) -> Limits {
        Limits {
            buffer_bytes: 1 << 30,
            shared_bytes: 48 << 10,
            threads: 1024,
            grid: 65_535,
            buffers: 16,
            multiprocessors: 132,
            cache_bytes: 0,
            software: true,
        }
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        Ok(Buffer::new(bytes, ()))
    }

    fn write(&self, _: &Buffer, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn read(&self, _: &Buffer, _: &mut [u8]) -> Result<()> {
        Err(Error::argument("a compiler", "to compile", "a read"))
    }

    fn program(&self, source: &Source<'_>) -> Result<Program> {
        let constants: Vec<String> =
            source.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let name = format!("{} {}", source.entry, constants.join(" "));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.iter().any(|(known, _)| *known == name) {
            let what = (self.compile)(source)?;
            said.push((name, what));
        }
        Ok(Program::new(()))
    }

    fn prepare(&self, _: &Launch<'_>) -> Result<Step> {
        Err(Error::argument("a compiler", "to compile", "a launch"))
    }

    fn prepare_copy(&self, _: &Buffer, _: &Buffer, _: usize) -> Result<Step> {
        Err(Error::argument("a compiler", "to compile", "a copy"))
    }

    fn record(&self, _: &mut dyn FnMut() -> Result<()>) -> Result<Step> {
        Err(Error::argument("a compiler", "to compile", "a recording"))
    }

    fn enqueue(&self, _: &Step) -> Result<()> {
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self, _: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        Err(Error::argument("a compiler", "to compile", "a timing"))
    }
}
