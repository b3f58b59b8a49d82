//! A setting: one name for the file, the environment and the command line.

/// Something an operator can set.
///
/// Its key is the name in the file; `--a-key` is the flag and `SESSIOND_A_KEY` the environment variable.
pub struct Setting<T> {
    key: &'static str,
    default: &'static str,
    kind: &'static str,
    help: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Setting<T> {
    /// `kind` is what the value is called in `--help`; `parse` says what a value has to be if it is none.
    pub(super) const fn new(
        key: &'static str,
        default: &'static str,
        kind: &'static str,
        help: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Self {
        Self {
            key,
            default,
            kind,
            help,
            parse,
        }
    }

    pub(super) fn parse(&self, text: &str) -> Result<T, String> {
        (self.parse)(text)
    }
}

/// What is known of a setting without the type of its values.
pub trait AnySetting: Sync {
    /// Its name in the file.
    fn key(&self) -> &'static str;
    /// The text that stands for its default.
    fn default_text(&self) -> &'static str;
    /// What its values are called in `--help`; [`SWITCH`] for true and false.
    fn kind(&self) -> &'static str;
    /// One or two sentences for the operator.
    fn help(&self) -> &'static str;
    /// What is wrong with a value, if anything.
    fn reason_against(&self, text: &str) -> Option<String>;

    /// Its name on the command line, without the dashes before it.
    fn flag(&self) -> String {
        self.key().replace('_', "-")
    }

    /// Its name in the environment.
    fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key().to_uppercase())
    }
}

/// What the names of all environment variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "SESSIOND_";

/// The kind of settings that are true or false.
pub const SWITCH: &str = "true|false";

impl<T> AnySetting for Setting<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default_text(&self) -> &'static str {
        self.default
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn help(&self) -> &'static str {
        self.help
    }

    fn reason_against(&self, text: &str) -> Option<String> {
        self.parse(text).err()
    }
}
