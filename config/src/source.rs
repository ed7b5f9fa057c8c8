//! The text of one file, and where in it an offset lies.

use std::path::Path;

/// One file's name and text.
pub(crate) struct Source<'t> {
    pub(crate) file: &'t Path,
    pub(crate) text: &'t str,
    /// Offset at which each line begins.
    lines: Vec<usize>,
}

/// A place in a file as an editor counts it, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl<'t> Source<'t> {
    pub(crate) fn new(file: &'t Path, text: &'t str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        Self { file, text, lines: std::iter::once(0).chain(starts).collect() }
    }

    /// The place of a byte offset; the end of the text where the offset lies beyond it.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.line_start(offset);
        let before = self.text.get(start..offset).map_or(offset - start, |text| text.chars().count());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place { line: number(line), column: number(before + 1) }
    }

    /// Offset at which the line of an offset begins.
    pub(crate) fn line_start(&self, offset: usize) -> usize {
        let line = self.lines.partition_point(|start| *start <= offset);
        line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or_default()
    }

    /// The line of an offset, for a message about another place of the same file.
    pub(crate) fn line(&self, offset: usize) -> String {
        format!("line {}", self.place(offset).line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new(Path::new("f"), "ab\ncé=1\n\n");
        let place = |offset| {
            let Place { line, column } = source.place(offset);
            (line, column)
        };
        assert_eq!([place(0), place(2), place(3), place(6)], [(1, 1), (1, 3), (2, 1), (2, 3)]);
        assert_eq!([place(9), place(99)], [(3, 1), (4, 1)]);
        assert_eq!(source.line(3), "line 2");
    }

    proptest! {
        #[test]
        fn no_offset_is_out_of_place(text in "[aé\n]{0,20}", offset in 0usize..60) {
            let place = Source::new(Path::new("f"), &text).place(offset);
            prop_assert!(place.line >= 1 && place.column >= 1);
        }
    }
}
