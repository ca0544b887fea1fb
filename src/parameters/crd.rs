//! The CustomResourceDefinition, as an object and as the YAML under `crds/`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::resource::IngressClassParameters;

/// The definition of IngressClassParameters.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = IngressClassParameters::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

/// The output of `waybill crds` and the content of `crds/`.
///
/// # Errors
///
/// If the definition can't be written as YAML, which no input can cause.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let yaml = serde_saphyr::to_string(&crd())?;
    Ok(format!("# Written by `make crds` from src/parameters/resource.rs.\n{yaml}"))
}

/// Adjusts a derived schema: no field accepts an explicit `null` (CEL would consider it present), none has a default,
/// and the lines of a doc comment form one paragraph.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.default = None;
    if let Some(description) = &mut schema.description {
        *description = description.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &mut schema.additional_properties {
        tidy(schema);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/waybill.dev_ingressclassparameters.yaml");

    #[test]
    fn the_file_under_crds_is_up_to_date() {
        let yaml = crd_yaml().unwrap();
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/crds")).unwrap();
            std::fs::write(PATH, &yaml).unwrap();
        }
        let file = std::fs::read_to_string(PATH).unwrap_or_default();
        assert!(file == yaml, "{PATH} is stale; run `make crds`, or this test with UPDATE_CRDS=1");
    }

    #[test]
    fn the_yaml_reads_back_as_the_definition() {
        let read: CustomResourceDefinition = serde_saphyr::from_str(&crd_yaml().unwrap()).unwrap();
        assert_eq!(read, crd());
    }

    /// `kubectl explain` shows nothing for a field without one.
    #[test]
    fn every_field_has_a_description_in_one_paragraph() {
        fn look(path: &str, schema: &JSONSchemaProps, seen: &mut usize) {
            for (name, property) in schema.properties.iter().flatten() {
                let path = format!("{path}.{name}");
                if path != ".metadata" {
                    let description = property.description.as_deref().unwrap_or_default();
                    // apiVersion, kind and metadata belong to the API server.
                    if !matches!(path.as_str(), ".apiVersion" | ".kind") {
                        assert!(!description.is_empty(), "{path} has no description");
                    }
                    assert!(!description.contains('\n'), "{path}");
                    assert_eq!(property.nullable, None, "{path} takes null");
                }
                *seen += 1;
                look(&path, property, seen);
                if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
                    look(&format!("{path}[]"), items, seen);
                }
            }
        }
        let mut seen = 0;
        let crd = crd();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        look("", schema, &mut seen);
        assert!(seen > 40, "{seen}");
    }
}
