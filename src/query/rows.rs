//! Some rows of a batch: a stretch, or some of a stretch; and the values that a column has there.

use crate::flow::batch::Column;
use std::ops::Range;

/// Rows of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    stretch: &'a Range<usize>,
    picked: Option<&'a [u16]>,
}

impl<'a> Rows<'a> {
    /// The rows of `stretch`, or those of them whose offset is in `picked`, which ascends.
    pub(super) fn new(stretch: &'a Range<usize>, picked: Option<&'a [u16]>) -> Self {
        Self { stretch, picked }
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.picked.map_or(self.stretch.len(), <[u16]>::len)
    }

    /// Whether each row of the stretch has a value in `column`.
    pub(super) fn all_in(&self, column: &Column) -> bool {
        self.runs_from(column).first().is_some_and(|run| run.start <= self.stretch.start && run.end >= self.stretch.end)
    }

    /// The values of the rows, which all have one: borrowed where they lie together, else gathered in `room`.
    pub(super) fn dense<'v, T: Copy + Default>(&self, values: &'v [T], room: &'v mut Vec<T>) -> &'v [T] {
        let values = values.get(self.stretch.clone()).unwrap_or_default();
        let Some(picked) = self.picked else { return values };
        room.clear();
        room.extend(picked.iter().map(|row| values.get(usize::from(*row)).copied().unwrap_or_default()));
        room
    }

    /// The values of the rows, `absent` where there is none.
    pub(super) fn filled<'v, T: Copy + Default>(
        &self,
        column: &Column,
        values: &'v [T],
        absent: T,
        room: &'v mut Vec<T>,
    ) -> &'v [T] {
        if self.all_in(column) {
            return self.dense(values, room);
        }
        room.clear();
        self.each(column, values, |value| room.push(value.unwrap_or(absent)));
        room
    }

    /// Calls `visit` with the value of each row, in order.
    pub(super) fn each<T: Copy>(&self, column: &Column, values: &[T], mut visit: impl FnMut(Option<T>)) {
        let mut runs = self.runs_from(column);
        let mut visit_row = |row: usize| {
            while let [run, later @ ..] = runs
                && run.end <= row
            {
                runs = later;
            }
            let present = runs.first().is_some_and(|run| run.start <= row);
            visit(if present { values.get(row).copied() } else { None });
        };
        match self.picked {
            None => self.stretch.clone().for_each(visit_row),
            Some(picked) => {
                picked.iter().for_each(|offset| visit_row(self.stretch.start.saturating_add(usize::from(*offset))));
            }
        }
    }

    /// The column's runs that end after the stretch begins.
    fn runs_from<'c>(&self, column: &'c Column) -> &'c [Range<usize>] {
        let runs = column.present().runs();
        runs.get(runs.partition_point(|run| run.end <= self.stretch.start)..).unwrap_or_default()
    }
}
