//! Names: a type's name means one thing in the whole crate.

use std::collections::BTreeMap;

#[test]
fn every_type_has_a_name_of_its_own() {
    let definition = regex::Regex::new(
        r"(?m)^[ \t]*(?:pub(?:\([a-z]+\))? )?(?:struct|enum|union|trait) ([A-Za-z0-9_]+)",
    )
    .unwrap();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new("src").into_iter().map(Result::unwrap) {
        if entry.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs_err::read_to_string(entry.path()).unwrap();
        for found in definition.captures_iter(&text) {
            let place = entry.path().display().to_string();
            places.entry(found[1].to_owned()).or_default().push(place);
        }
    }
    assert!(places.len() > 100, "hardly a type was found");
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "defined more than once: {places:#?}");
}
