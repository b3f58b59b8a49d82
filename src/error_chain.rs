//! Errors with their causes, on one line: for logs and for people.

use std::{error::Error as StdError, fmt};

/// The error and its causes, outermost first: `cannot connect: connection refused`.
#[must_use]
pub fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl fmt::Display + 'a {
    Chain(Some(error))
}

/// The causes of an error without the error itself, for a line that says it already. Empty if there are none.
#[must_use]
pub fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl fmt::Display + 'a {
    Chain(error.source())
}

struct Chain<'a>(Option<&'a (dyn StdError + 'static)>);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = String::new();
        let mut next = self.0;
        while let Some(error) = next {
            let text = error.to_string();
            // Many errors quote their cause, or are what they wrap.
            if previous.is_empty() {
                f.write_str(&text)?;
            } else if !previous.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            previous = text;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("refused")]
        Refused,
        #[error("cannot connect")]
        Connect(#[source] Box<Failure>),
        #[error("the store: {0}")]
        Quoting(#[source] Box<Failure>),
        #[error(transparent)]
        Wrapping(Box<Failure>),
    }

    fn connect() -> Box<Failure> {
        Box::new(Failure::Connect(Box::new(Failure::Refused)))
    }

    #[test]
    fn causes_stand_behind_what_they_caused() {
        assert_eq!(chain(&*connect()).to_string(), "cannot connect: refused");
        assert_eq!(causes(&*connect()).to_string(), "refused");
        assert_eq!(causes(&Failure::Refused).to_string(), "");
    }

    #[test]
    fn a_cause_that_is_quoted_already_is_not_repeated() {
        let quoting = Failure::Quoting(connect());
        assert_eq!(chain(&quoting).to_string(), "the store: cannot connect: refused");
        let wrapping = Failure::Wrapping(connect());
        assert_eq!(chain(&wrapping).to_string(), "cannot connect: refused");
    }
}
