//! What befalls the disk: refusals while a process runs, power cuts and damage between two.

use super::{End, History, lock};
use crate::ingest::simulation::reference::Said;
use crate::journal::simulated::{Faults, Hand};
use std::sync::Arc;

impl History {
    pub(super) fn disk_changes(&mut self, end: End) {
        if !self.weather.disk || end == End::Last {
            return;
        }
        let random = &mut self.random;
        let mut faults = Faults::default();
        match random.u8(0..8) {
            0 => faults.room = Some(random.usize(0..3_000)),
            1 => faults.write = true,
            2 => faults.sync = true,
            3 => faults.sync_directory = true,
            4 => (faults.room, faults.truncate) = (Some(random.usize(0..3_000)), true),
            5 => faults.remove = true,
            6 if end == End::Killed => faults.dies_after = Some(random.usize(0..2_000)),
            _ => {}
        }
        self.tell(|| format!("disk: {faults:?}"));
        self.disk.set_faults(faults);
    }

    pub(super) fn flush(&mut self, hand: &Hand) {
        let end = self.world().reference.entries.last().map_or(0, |entry| entry.end);
        let all = hand.flush();
        self.tell(|| format!("journal: flushed up to {end}: {all}"));
        if all {
            self.flushed = end;
        }
    }

    /// The power fails after the end of a process.
    pub(super) fn cut_power(&mut self, process: u32) {
        self.disk.cut_power();
        self.forgotten |= self.dropped.values().any(|count| *count > 0);
        let mut world = self.world();
        let position = world.stored.position;
        let mut lost = 0;
        for entry in world.reference.entries.iter_mut().filter(|entry| entry.end > position) {
            if entry.gone_for.is_some() {
                continue;
            }
            let all = std::fs::read(&entry.file).unwrap_or_default();
            let range = entry.offset as usize..entry.offset as usize + entry.bytes.len();
            if all.get(range) == Some(&entry.bytes[..]) {
                continue;
            }
            let safe = entry.end <= self.flushed && !self.disk.is_doubtful(&entry.file);
            assert!(!safe, "the record up to {} was flushed and is lost", entry.end);
            entry.gone_for = Some(process + 1);
            lost += 1;
        }
        world.tell(|| format!("the power is cut: {lost} records are lost"));
    }

    /// Damage on the disk between two processes, in the midst of what one of them wrote.
    pub(super) fn damage(&mut self, process: u32) {
        let shared = Arc::clone(&self.world);
        let mut world = lock(&shared);
        let position = world.stored.position;
        let entries = &mut world.reference.entries;
        let waiting = entries.partition_point(|entry| entry.end <= position);
        if entries.len() < waiting + 4 {
            return;
        }
        // The next one in the same file tells by its number what was lost.
        let first = self.random.bool();
        let index = if first { waiting } else { self.random.usize(waiting..entries.len() - 3) };
        let (entry, next) = (&entries[index], &entries[index + 1]);
        let datagram = matches!(entry.said, Said::Datagram { .. });
        if !datagram || entry.gone_for.is_some() || next.gone_for.is_some() || next.begin != entry.end {
            return;
        }
        let at = entry.offset + self.random.u64(0..entry.bytes.len() as u64);
        self.disk.damage(&entry.file, at);
        let begin = entry.begin;
        entries[index].gone_for = Some(process + 1);
        world.tell(|| format!("disk: the record at {begin} is damaged"));
        drop(world);
        self.damaged.push(index);
    }
}
