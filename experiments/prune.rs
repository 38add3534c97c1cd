//! Prunes, compacts or converts a file of weights, without training.

use std::path::Path;
use std::process::ExitCode;

use scalpel::cli::{self, Files, How, Prune, Storage};
use scalpel::error::Error;
use scalpel::import::{self, Imported, NetworkWeights};
use scalpel::network::{Network, Weights};
use scalpel::prune::compact;
use scalpel::prune::whole::{self, Criterion, count};
use scalpel::sparse::{Format, Model};
use serde_json::json;

fn main() -> ExitCode {
    cli::main(run)
}

fn run(arguments: Prune) -> anyhow::Result<()> {
    let (files, width) = match &arguments.how {
        How::Simd { files, width, .. } | How::Random { files, width, .. } => (files, Some(*width)),
        How::Upright { files, height, .. } => (files, Some(*height)),
        How::Node { files, .. } | How::Magnitude { files, .. } | How::Convert { files } => {
            (files, None)
        }
    };
    let (weights, kept, network) = pruned(&arguments.how, files)?;
    let format = match (files.format, files.group_width.or(width)) {
        (Storage::Dense, _) => Format::Dense,
        (Storage::Csr, _) => Format::Csr,
        (Storage::Groups, Some(width)) => Format::Groups(width),
        (Storage::Upright, Some(height)) => Format::Upright(height),
        (Storage::Groups | Storage::Upright, None) => {
            anyhow::bail!("--format groups or upright needs --group-width")
        }
    };
    let model = Model::new(&kept, network.as_ref(), format)?;
    model.save(&files.output)?;

    let before = Model::new(&weights, None, Format::Dense)?.bytes().total();
    report(
        &arguments,
        &files.output,
        (count(&weights), before),
        (count(&kept), model.bytes().total()),
    );
    Ok(())
}

/// The weights of the file, those that are left, and their network where it is no longer one of the zoo.
fn pruned(how: &How, files: &Files) -> anyhow::Result<(Weights, Weights, Option<Network>)> {
    let (input, key) = (&files.input, files.key.as_deref());
    if let How::Node { network, .. } = how {
        let own = NetworkWeights::read(input, key, network)?;
        let masks = own.weights.node_masks(&own.network)?;
        if masks.is_empty() {
            let expected = format!("masks of {}, such as mask_ip1.alpha", own.network.name);
            return Err(Error::malformed("the input file", expected, "none").into());
        }
        let (network, kept) = compact::compact(&own.network, &own.weights, &masks)?;
        return Ok((own.weights, kept, Some(network)));
    }
    let imported = import::read(input, key)?;
    import::print_notes(&imported.notes);
    let Imported { weights, network, .. } = imported;
    let unused = whole::unused(&weights);
    if !unused.is_empty() {
        eprintln!("note: of no layer, and kept as they are: {}", unused.join(", "));
    }
    let criterion = match *how {
        How::Convert { .. } | How::Node { .. } => return Ok((weights.clone(), weights, network)),
        How::Simd { width, threshold, .. } => Criterion::Simd { width, threshold },
        How::Upright { height, threshold, .. } => Criterion::Upright { height, threshold },
        How::Random { width, fraction, seed, .. } => Criterion::Random { width, fraction, seed },
        How::Magnitude { fraction, per_layer, .. } => Criterion::Magnitude { fraction, per_layer },
    };
    let kept = whole::prune(&weights, criterion)?;
    Ok((weights, kept, network))
}

fn report(
    arguments: &Prune,
    output: &Path,
    ((_, total), bytes_before): ((usize, usize), usize),
    ((kept, _), bytes): ((usize, usize), usize),
) {
    let removed = 100.0 * (1.0 - kept as f64 / total.max(1) as f64);
    if arguments.json {
        let report = json!({
            "output": output,
            "weights_total": total,
            "weights_kept": kept,
            "removed_percent": removed,
            "bytes_before": bytes_before,
            "bytes_after": bytes,
        });
        println!("{report}");
    } else {
        println!("{}: {kept} of {total} weights left, {removed:.1}% removed", output.display());
        println!("{bytes_before} bytes before, {bytes} after, indices included");
        if kept < total && bytes == bytes_before {
            println!(
                "zeros are stored too: --format groups, upright or csr stores what is left alone"
            );
        }
    }
}
