//! Values by small numbers, in pieces: growing copies nothing, and what is freed is used again.
//!
//! **Promises.** A number stays valid until it is removed; then it may be given to another value, so who keeps numbers for
//! long compares what they find. Costs the value and, while free, four bytes.

/// Values in a piece.
const PIECE: usize = 4_096;

/// The slab.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Puts a value in and says under which number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(number) = self.free.pop() {
            if let Some(place) = self.place(number) {
                *place = Some(value);
            }
            return number;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let last = &mut self.pieces[before / PIECE];
        last.push(Some(value));
        u32::try_from(before + last.len() - 1).unwrap_or(u32::MAX)
    }

    fn place(&mut self, number: u32) -> Option<&mut Option<T>> {
        self.pieces.get_mut(number as usize / PIECE)?.get_mut(number as usize % PIECE)
    }

    /// The value of that number.
    pub(super) fn find(&self, number: u32) -> Option<&T> {
        self.pieces.get(number as usize / PIECE)?.get(number as usize % PIECE)?.as_ref()
    }

    /// The value of that number, to be changed.
    pub(super) fn find_mut(&mut self, number: u32) -> Option<&mut T> {
        self.place(number)?.as_mut()
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.place(number)?.take()?;
        self.free.push(number);
        self.len -= 1;
        Some(value)
    }

    /// Values in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Numbers below this one may be in use.
    pub(super) fn end(&self) -> u32 {
        let whole = self.pieces.len().saturating_sub(1) * PIECE;
        u32::try_from(whole + self.pieces.last().map_or(0, Vec::len)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_until_removed_and_come_back() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..10_000_u32).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.len(), slab.end()), (10_000, 10_000));
        assert!(numbers.iter().all(|&n| slab.find(n) == Some(&n)));
        assert_eq!(slab.remove(5_000), Some(5_000));
        assert!(slab.remove(5_000).is_none() && slab.find(5_000).is_none() && slab.remove(99_999).is_none());
        assert_eq!(slab.insert(7), 5_000);
        *slab.find_mut(5_000).unwrap() += 1;
        assert_eq!((slab.find(5_000), slab.len(), slab.end()), (Some(&8), 10_000, 10_000));
    }
}
