//! What no compiler checks: that the imports point one way, that the documents name what exists, and that the tree gives
//! away nothing of the machines it was made on.

mod clean_tree;
mod documents;
mod imports;
mod tree;
mod walkthroughs;
