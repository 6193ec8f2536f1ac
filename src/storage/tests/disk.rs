//! The faulty disk keeps its own rules.

use std::io::IoSlice;

use super::super::disk::Disk;
use super::*;

#[test]
fn synced_bytes_and_names_survive_and_others_sometimes_do_not() {
    let path = Path::new("d/f");
    let (mut lost_name, mut lost_bytes, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = FaultyDisk::new(seed);
        let file = disk.create(path).unwrap();
        file.write_at(&mut [IoSlice::new(b"kept")], 0).unwrap();
        file.sync().unwrap();
        if seed % 2 == 0 {
            disk.sync_dir(Path::new("d")).unwrap();
        }
        file.write_at(&mut [IoSlice::new(&[7; 5000])], 10).unwrap();
        disk.cut_power();
        assert!(file.sync().is_err());
        let left = disk.contents(path);
        if seed % 2 == 1 && left.is_empty() {
            lost_name += 1;
            continue;
        }
        assert_eq!(&left[..4], b"kept");
        match left.iter().filter(|b| **b == 7).count() {
            0 => lost_bytes += 1,
            5000 => {}
            _ => torn += 1,
        }
    }
    assert!(lost_name > 20 && lost_bytes > 20 && torn > 20, "{lost_name} {lost_bytes} {torn}");
}
