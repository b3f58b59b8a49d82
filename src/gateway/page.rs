//! Which page of a list a query asks for.

use super::{
    form,
    problem::{Problem, ProblemKind, Violation},
};

/// `?page_size=…&page_token=…`; the service chooses what is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageQuery {
    pub(super) size: i32,
    pub(super) token: String,
}

impl PageQuery {
    /// # Errors
    /// [`ProblemKind::InvalidField`] if the size is no number, or one of them is given twice. Other names in a query mean nothing: a token above all is never looked for
    /// there (S-05).
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, Problem> {
        let pairs = form::pairs(query.unwrap_or_default().as_bytes()).ok_or(ProblemKind::MalformedQuery)?;
        let mut page = Self::default();
        let (mut sizes, mut tokens) = (0, 0);
        for (name, value) in pairs {
            match name.as_str() {
                "page_size" => {
                    sizes += 1;
                    page.size = value
                        .parse()
                        .map_err(|_| refused("page_size", "must be a number"))?;
                }
                "page_token" => {
                    tokens += 1;
                    page.token = value;
                }
                _ => {}
            }
        }
        for (name, count) in [("page_size", sizes), ("page_token", tokens)] {
            if count > 1 {
                return Err(refused(name, "must be given once"));
            }
        }
        Ok(page)
    }
}

fn refused(field: &str, rule: &str) -> Problem {
    Problem::invalid_fields(vec![Violation::new(field, rule)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_names_a_page() {
        assert_eq!(PageQuery::of_query(None).unwrap(), PageQuery::default());
        let page = PageQuery::of_query(Some("page_size=7&page_token=a%2Bb&x=y")).unwrap();
        assert_eq!((page.size, page.token.as_str()), (7, "a+b"));
        for query in [
            "page_size=",
            "page_size=x",
            "page_size=99999999999",
            "page_size=1&page_size=1",
            "page_token=a&page_token=b",
        ] {
            assert!(PageQuery::of_query(Some(query)).is_err(), "{query}");
        }
        assert_eq!(
            PageQuery::of_query(Some("a=%ff")),
            Err(ProblemKind::MalformedQuery.into())
        );
    }
}
