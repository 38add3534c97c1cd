use super::*;
use crate::report::environment::Environment;
use crate::report::slug;

/// A measurement in which a policy takes the given microseconds.
fn measured(network: &str, threads: usize, times: &[(&str, f64, usize)]) -> StoredSpeedup {
    let of = |policy: &str| times.iter().find(|time| time.0 == policy).map(|time| time.1);
    let library = of(LIBRARY);
    let dense = [library, of(DENSE)].into_iter().flatten().fold(f64::INFINITY, f64::min);
    let row = |&(policy, microseconds, bytes): &(&str, f64, usize)| SpeedupRow {
        network: network.into(),
        device: "cpu".into(),
        threads,
        batch: 1,
        policy: policy.into(),
        microseconds,
        interval: [microseconds; 2],
        speedup_over_library: library.map(|library| library / microseconds),
        speedup_over_dense: dense / microseconds,
        bytes,
        weights_from: "random".into(),
        detail: None,
        accuracy: (policy == SCALPEL).then_some([98.5, 98.25]),
        thread_scaling: (threads > 1).then_some(1.625),
    };
    let mut environment = Environment::read("cpu");
    environment.date = "2026-01-02".into();
    environment.commit = Some("abc".into());
    StoredSpeedup { rows: times.iter().map(row).collect(), environment }
}

#[test]
fn threads_part_measurements_of_cpus_alone() {
    let times = [(DENSE, 40.0, 100), (SCALPEL, 5.0, 10)];
    let mut stored = vec![measured("lenet-5", 1, &times), measured("convnet", 2, &times)];
    assert_eq!(speedup_groups(&stored).len(), 2);
    for one in &mut stored {
        one.rows.iter_mut().for_each(|row| row.device = "wgpu".into());
    }
    let groups = speedup_groups(&stored);
    let [group] = &groups[..] else { panic!("{} groups", groups.len()) };
    assert_eq!((group.title().as_str(), group.members.len()), ("wgpu, batch 1", 2));
}

#[test]
fn hardware_that_was_measured_last_comes_first_and_stand_ins_last() {
    let times = [(DENSE, 40.0, 100), (SCALPEL, 5.0, 10)];
    let mut stored = Vec::new();
    for (cpu, date, threads) in [
        ("A", "2026-01-02", 1),
        ("A", "2026-01-04", 2),
        ("B", "2026-01-05", 1),
        ("C", "2026-01-03", 1),
        ("D", "2026-01-06", 1),
    ] {
        let mut one = measured("lenet-5", threads, &times);
        (one.environment.cpu, one.environment.date) = (cpu.into(), date.into());
        one.environment.software_gpu = cpu == "D";
        stored.push(one);
    }
    let groups = speedup_groups(&stored);
    let found: Vec<(&str, usize)> = groups
        .iter()
        .map(|group| (&*group.members[0].environment.cpu, group.first().unwrap().threads))
        .collect();
    assert_eq!(found, [("B", 1), ("A", 1), ("A", 2), ("C", 1), ("D", 1)]);
}

#[test]
fn every_commit_and_the_processors_instruction_sets_are_named() {
    let times = [(DENSE, 40.0, 100), (SCALPEL, 5.0, 10)];
    let mut stored = vec![measured("lenet-5", 1, &times), measured("convnet", 1, &times)];
    for one in &mut stored {
        one.environment.isa = vec!["avx2+fma".into(), "avx512f".into()];
    }
    let groups = |stored: &[StoredSpeedup]| speedup_groups(stored)[0].measured_on();
    let expected = "Measured on 2026-01-02 with avx2+fma and avx512f, commit abc.";
    assert_eq!(groups(&stored), expected);
    stored[1].environment.commit = Some("def".into());
    stored[1].environment.date = "2026-01-03".into();
    stored.iter_mut().for_each(|one| one.environment.device = "cuda".into());
    stored.iter_mut().for_each(|one| one.environment.gpu = Some("a GPU".into()));
    stored.iter_mut().flat_map(|one| &mut one.rows).for_each(|row| row.device = "cuda".into());
    let expected = "Measured on 2026-01-02, 2026-01-03, commits abc, def.";
    assert_eq!(groups(&stored), expected);
}

#[test]
fn what_threads_did_beside_the_networks_is_told_where_it_was_measured() {
    let times = [(DENSE, 40.0, 100), (SCALPEL, 5.0, 10)];
    let mut stored = vec![measured("lenet-5", 2, &times), measured("convnet", 2, &times)];
    stored[1].rows.iter_mut().for_each(|row| row.thread_scaling = None);
    let text = section(&stored).unwrap().0.markdown();
    assert!(
        text.contains("2 threads did so many times the work of one")
            && text.contains("cache: lenet-5 1.62."),
        "{text}"
    );
    assert!(!section(&both()).unwrap().0.markdown().contains("the work of one"));
}

fn both() -> Vec<StoredSpeedup> {
    vec![
        measured("lenet-5", 1, &[(LIBRARY, 80.0, 100), (DENSE, 40.0, 100), (SCALPEL, 5.0, 10)]),
        measured(
            "lenet-300-100",
            1,
            &[(LIBRARY, 10.0, 100), (DENSE, 20.0, 100), (SCALPEL, 5.0, 40)],
        ),
    ]
}

#[test]
fn means_are_geometric_over_the_fastest_dense_contestant_of_each_network() {
    let stored = both();
    let groups = speedup_groups(&stored);
    let [group] = groups.as_slice() else { panic!("one group") };
    assert_eq!(group.title(), "one thread, batch 1");
    let over_dense = group.mean(SCALPEL, |row| Some(row.speedup_over_dense)).unwrap();
    approx::assert_relative_eq!(over_dense, 4.0, max_relative = 1e-12); // of 8 and 2
    let over_library = group.mean(SCALPEL, |row| row.speedup_over_library).unwrap();
    approx::assert_relative_eq!(over_library, 32_f64.sqrt(), max_relative = 1e-12);
    assert_eq!(group.mean("simd", |row| row.speedup_over_library), None);
    let table = speedup_table(group).markdown();
    let first = table.lines().nth(2).unwrap();
    assert!(first.contains("lenet-300-100") && first.contains("10.0 (libtorch)"), "{table}");
    assert!(table.contains("40.0 (dense)") && table.contains("98.50 → 98.25"), "{table}");
}

#[test]
fn a_selection_of_policies_has_its_rows() {
    let stored = [measured("lenet-5", 1, &[(LIBRARY, 80.0, 100), ("upright", 5.0, 10)])];
    let groups = speedup_groups(&stored);
    let table = speedup_table(&groups[0]).markdown();
    let row = table.lines().nth(2).unwrap();
    assert!(row.contains("lenet-5") && row.contains("16.00x"), "{table}");
    assert!(row.contains("not measured"), "{table}");
}

#[test]
fn the_section_says_what_was_not_measured_and_equal_rows_give_equal_bytes() {
    let (section, plots) = section(&both()).unwrap();
    assert_eq!((&section, &plots), (&super::section(&both()).unwrap().0, &plots));
    let text = section.markdown();
    assert!(text.contains("A GPU through cuda: not measured"), "{text}");
    assert!(text.contains("3.54x") && text.contains("5.66x"), "{text}");
    let [(name, svg)] = plots.as_slice() else { panic!("one plot") };
    let hardware = both()[0].environment.hardware();
    assert_eq!(*name, slug(&format!("speedup {hardware} one thread batch 1")));
    assert!(svg.contains("geometric mean") && svg.contains("the paper"), "{svg}");
    let csv = section.csv().unwrap();
    assert_eq!(csv.lines().count(), 1 + 6, "{csv}");
}

#[test]
fn processors_are_kept_apart() {
    let mut stored = both();
    for (one, (cpu, date)) in stored.iter_mut().zip([("A", "2026-01-02"), ("B", "2026-01-03")]) {
        one.environment.cpu = cpu.into();
        one.environment.date = date.into();
    }
    let (section, plots) = section(&stored).unwrap();
    assert_ne!(plots[0].0, plots[1].0);
    let text = section.markdown();
    assert!(text.contains("## A, ") && text.contains("## B, "), "{text}");
}

#[test]
fn policies_of_earlier_versions_are_read_by_the_names_of_this_one() {
    let row = &measured("lenet-5", 1, &[(LIBRARY, 5.0, 10)]).rows[0];
    for (old, new) in [("traditional", "magnitude"), ("both", "combined"), ("simd", "simd")] {
        let mut value = serde_json::to_value(row).unwrap();
        value["policy"] = old.into();
        assert_eq!(serde_json::from_value::<SpeedupRow>(value).unwrap().policy, new);
    }
}

#[test]
fn sizes_are_means_of_what_is_left() {
    let stored = [
        measured("lenet-5", 1, &[(DENSE, 1.0, 100), ("simd", 1.0, 10)]),
        measured("nin", 1, &[(DENSE, 1.0, 100), ("simd", 1.0, 40)]),
    ];
    let table = sizes(&stored).unwrap().unwrap().markdown();
    let row = table.lines().find(|line| line.contains("simd")).unwrap();
    assert!(row.contains("80.0%") && row.contains("88%") && row.contains("90.0%"), "{table}");
    assert!(sizes(&[]).unwrap().is_none());
}
