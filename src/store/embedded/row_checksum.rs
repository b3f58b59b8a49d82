//! The checksum that every row carries. SQLite has none: without it, a flipped bit could give a session to another user.

/// A sum over the fields of a row, in their order. Each step can be undone, so two rows that differ within one word of eight
/// bytes never have one sum; others hardly ever do.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowChecksum(u64);

/// What a row holds does not match its sum, or is nothing that was ever written.
#[derive(Debug, thiserror::Error)]
#[error("a row of {table} is damaged")]
pub(super) struct Damaged {
    pub(super) table: &'static str,
}

impl RowChecksum {
    /// The sum of no fields in this table.
    pub(super) fn of(table: &str) -> Self {
        Self(0).bytes(table.as_bytes())
    }

    pub(super) fn word(self, word: u64) -> Self {
        // An odd factor, so that the product can be undone.
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed ^ mixed >> 32)
    }

    pub(super) fn int(self, int: i64) -> Self {
        self.word(int.cast_unsigned())
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let checksum = self.word(bytes.len() as u64);
        bytes.chunks(8).fold(checksum, |checksum, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            checksum.word(u64::from_le_bytes(word))
        })
    }

    pub(super) fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.word(0),
            Some(bytes) => self.word(1).bytes(bytes),
        }
    }

    pub(super) fn optional_int(self, int: Option<i64>) -> Self {
        match int {
            None => self.word(0),
            Some(int) => self.word(1).int(int),
        }
    }

    /// The sum as SQLite keeps it.
    pub(super) fn sum(self) -> i64 {
        self.0.cast_signed()
    }

    /// # Errors
    /// If the stored sum is another.
    pub(super) fn check(self, table: &'static str, stored: i64) -> Result<(), Damaged> {
        match self.sum() == stored {
            true => Ok(()),
            false => Err(Damaged { table }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_02_no_flipped_bit_keeps_the_sum() {
        let bytes: Vec<u8> = (0..45).collect();
        let sum = RowChecksum::of("sessions").bytes(&bytes).sum();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(
                RowChecksum::of("sessions").bytes(&flipped).sum(),
                sum,
                "bit {bit}"
            );
        }
        assert_ne!(RowChecksum::of("users").bytes(&bytes).sum(), sum);
    }

    #[test]
    fn what_is_absent_is_not_what_is_empty() {
        let checksum = RowChecksum::of("users");
        assert_ne!(checksum.optional(None).sum(), checksum.optional(Some(b"")).sum());
        assert_ne!(
            checksum.optional_int(None).sum(),
            checksum.optional_int(Some(0)).sum()
        );
    }
}
