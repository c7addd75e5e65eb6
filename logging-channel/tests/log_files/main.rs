//! Log files under every kind of harm: cuts, flipped bits, arbitrary bytes, segments that are missing or from elsewhere.

mod cuts;
mod damage;
mod fixture;
mod images;
mod keeper;
mod killed;
mod reader_in_python;
mod segments;
