//! Every program of every kernel through its compiler, on a machine without a GPU: CUDA C++ through
//! NVRTC for three architectures, with registers and spills, and WGSL through naga.

use ndarray::Array2;

use crate::device::compile_only::CompileOnly;
use crate::device::gpu::{Gpu, Language, Source};
use crate::error::{Error, Result};
use crate::kernels::gpu::Operands;
use crate::kernels::layout::ImageLayout;
use crate::kernels::pool_eltwise::{self, Op, Window};
use crate::kernels::{csr_spmm, group_spmm, masked_dense, upright_spmm};
use crate::sparse::{Csr, GroupSparse, UprightSparse};

/// Packs everything that compiles to a program of its own.
fn pack_everything(gpu: &dyn Gpu) {
    let ones = Array2::ones((8, 2048));
    // Vectors of four columns, and columns that are none.
    for n in [128, 5, 1] {
        let operands = Operands::plain([8, 2048], n).unwrap();
        for variant in group_spmm::gpu::VARIANTS.iter().filter(|v| v.target == gpu.language()) {
            let vector = variant.design == group_spmm::gpu::Design::Vector;
            for width in [2, 4, 8, 16] {
                let weights = GroupSparse::from_dense(ones.view(), width).unwrap();
                let layer = group_spmm::GroupLayer { weights: &weights, bias: None, relu: true };
                if !vector || n == 1 {
                    group_spmm::gpu::pack_with(gpu, variant, &layer, &operands).unwrap();
                }
            }
        }
        for variant in upright_spmm::gpu::VARIANTS.iter().filter(|v| v.target == gpu.language()) {
            let vector = variant.design == upright_spmm::gpu::Design::Vector;
            for height in [2, 4, 8, 16] {
                let weights = UprightSparse::from_dense(ones.view(), height).unwrap();
                let layer =
                    upright_spmm::UprightLayer { weights: &weights, bias: None, relu: true };
                if !vector || n == 1 {
                    upright_spmm::gpu::pack_with(gpu, variant, &layer, &operands).unwrap();
                }
            }
        }
        for variant in masked_dense::gpu::VARIANTS.iter().filter(|v| v.target == gpu.language()) {
            let vector = variant.design == masked_dense::gpu::Design::Vector;
            let product =
                masked_dense::gpu::Product { weights: ones.view(), bias: None, relu: true };
            if !vector || n == 1 {
                masked_dense::gpu::pack_with(gpu, variant, &product, &operands).unwrap();
            }
        }
        for variant in csr_spmm::gpu::VARIANTS.iter().filter(|v| v.target == gpu.language()) {
            let weights = Csr::from_dense(ones.view()).unwrap();
            let layer = csr_spmm::CsrLayer { weights: &weights, bias: None, relu: true };
            if variant.design != csr_spmm::gpu::Design::Vector || n == 1 {
                csr_spmm::gpu::pack_with(gpu, variant, &layer, &operands).unwrap();
            }
        }
    }
    // Rows of X that lie apart are gathered, and short ones are not shared by warps.
    let small = Array2::ones((8, 20));
    let mut apart = Operands::plain([8, 20], 1).unwrap();
    apart.x.rows.iter_mut().for_each(|row| *row *= 2);
    let product = masked_dense::gpu::Product { weights: small.view(), bias: None, relu: true };
    masked_dense::gpu::pack(gpu, &product, &apart).unwrap();
    for variant in masked_dense::gpu::VARIANTS.iter().filter(|v| v.target == gpu.language()) {
        masked_dense::gpu::pack_with(gpu, variant, &product, &apart).unwrap();
    }
    let (shape, window) = ([3, 8, 8], Window { size: 3, stride: 2, padding: 1 });
    let plain = ImageLayout::plain(shape);
    for op in [
        Op::Max(window),
        Op::Average(window),
        Op::MaxAffine { window, scale: &[1.0; 3], shift: &[0.0; 3] },
        Op::Norm { size: 3, alpha: 5e-5, beta: 0.75 },
        Op::Affine { scale: &[1.0; 3], shift: &[0.0; 3], relu: false },
        Op::Copy { relu: false },
    ] {
        pool_eltwise::gpu::pack(gpu, &op, shape, 1, [&plain, &plain]).unwrap();
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::*;
    use crate::device::compile_only::Compile;
    use crate::device::cuda::nvrtc;
    use crate::test_support;

    /// Registers and spills of the entry point.
    fn assemble(source: &Source<'_>, architecture: &str) -> Result<String> {
        let usage = nvrtc::compile(source, architecture)?.usage();
        let own = usage.iter().find(|usage| usage.function == source.entry).ok_or_else(|| {
            Error::malformed(source.entry, "a line of the assembler about it", format!("{usage:?}"))
        })?;
        // A block must find its registers: 65,536 a multiprocessor.
        if own.spills > 0 || own.registers == 0 || own.registers * source.threads > 65_536 {
            let found = format!("{own:?} for {:?}", source.constants);
            return Err(Error::malformed(
                source.entry,
                "no spill, and registers for a block",
                found,
            ));
        }
        Ok(format!("{} registers", own.registers))
    }

    #[test]
    fn every_cuda_program_assembles_and_none_spills() {
        if let Err(error) = nvrtc::available() {
            return test_support::skip("nvrtc", &error.to_string());
        }
        // The oldest architecture of CUDA 13 has no TF32.
        let turing = |source: &Source<'_>| match source.entry {
            "masked_dense_tf32" => Ok("needs sm_80".into()),
            _ => assemble(source, "sm_75"),
        };
        let compilers: [(&str, Compile); 3] = [
            ("sm_75", turing),
            ("sm_80", |source| assemble(source, "sm_80")),
            ("sm_90", |source| assemble(source, "sm_90")),
        ];
        std::thread::scope(|scope| {
            for (architecture, compile) in compilers {
                scope.spawn(move || {
                    let compile_only = CompileOnly::new(Language::Cuda, compile);
                    pack_everything(&compile_only);
                    let said = compile_only.said();
                    assert!(said.len() > 20, "{}", said.len());
                    for (program, registers) in said {
                        println!("{architecture} {program}: {registers}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_program_that_does_not_compile_is_refused_with_the_log() {
        if let Err(error) = nvrtc::available() {
            return test_support::skip("nvrtc", &error.to_string());
        }
        let source = Source {
            stem: "broken",
            cuda: Some("extern \"C\" __global__ void broken() { nothing(); }"),
            wgsl: None,
            entry: "broken",
            constants: &[],
            threads: 32,
        };
        let error = nvrtc::compile(&source, "sm_90").unwrap_err().to_string();
        assert!(error.contains("cuda/broken.cu for sm_90") && error.contains("nothing"), "{error}");
    }
}

#[cfg(feature = "wgpu")]
mod wgsl {
    use wgpu::naga;

    use super::*;

    fn validate(source: &Source<'_>) -> Result<String> {
        let text = source.wgsl()?;
        let wrong = |error: String| Error::malformed(source.entry, "a valid shader", error);
        let module = naga::front::wgsl::parse_str(&text)
            .map_err(|error| wrong(error.emit_to_string(&text)))?;
        let flags = naga::valid::ValidationFlags::all();
        naga::valid::Validator::new(flags, naga::valid::Capabilities::empty())
            .validate(&module)
            .map_err(|error| wrong(error.emit_to_string(&text)))?;
        match &module.entry_points[..] {
            [entry] if entry.name == source.entry => Ok(format!("{:?}", entry.workgroup_size)),
            others => Err(wrong(format!("{} entry points", others.len()))),
        }
    }

    #[test]
    fn every_shader_is_valid() {
        let compile_only = CompileOnly::new(Language::Wgsl, validate);
        pack_everything(&compile_only);
        assert!(compile_only.said().len() > 20);
    }
}
