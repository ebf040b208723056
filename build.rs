//! Makes cargo notice new migrations, which are embedded into the program.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
