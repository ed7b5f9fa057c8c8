//! Structure drawn from bytes.

/// Bytes that decide what a target does. Where they end, every further draw is zero.
#[derive(Clone, Copy, Debug)]
pub struct Input<'b> {
    rest: &'b [u8],
}

impl<'b> Input<'b> {
    /// All draws come from `bytes`, in order.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether every further draw is zero.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// Two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which is at least 1 and at most 65,536.
    pub fn below(&mut self, bound: usize) -> usize {
        let drawn = if bound <= 256 { usize::from(self.byte()) } else { usize::from(self.word()) };
        drawn % bound
    }

    /// True once in `n` draws.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of `choices`, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    /// Everything that is left.
    #[must_use]
    pub const fn rest(&self) -> &'b [u8] {
        self.rest
    }
}
