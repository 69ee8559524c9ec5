//! What must be known of FHIR R4 to make an element that is not there yet: whether it is a list, and whether its name is the
//! stem of a choice. Where an element is there, its own shape is taken.

use super::path::Step;

/// Elements that repeat wherever they occur.
const LISTS: &[&str] = &["coding", "extension", "given", "line", "modifierExtension", "prefix", "suffix"];

/// Every other element that repeats, by resource type (R4 definitions, `max` of `*`). Of these types, what is not named here
/// occurs once.
const RESOURCES: &[(&str, &[&str])] = &[
    ("AllergyIntolerance", &["identifier", "category", "note", "reaction", "reaction.manifestation", "reaction.note"]),
    (
        "Condition",
        &[
            "identifier",
            "category",
            "bodySite",
            "stage",
            "stage.assessment",
            "evidence",
            "evidence.code",
            "evidence.detail",
            "note",
        ],
    ),
    ("Coverage", &["identifier", "payor", "class", "costToBeneficiary", "costToBeneficiary.exception", "contract"]),
    (
        "DocumentReference",
        &[
            "identifier",
            "category",
            "author",
            "relatesTo",
            "securityLabel",
            "content",
            "context.encounter",
            "context.event",
            "context.related",
        ],
    ),
    (
        "Immunization",
        &[
            "identifier",
            "performer",
            "note",
            "reasonCode",
            "reasonReference",
            "subpotentReason",
            "education",
            "programEligibility",
            "reaction",
            "protocolApplied",
            "protocolApplied.targetDisease",
        ],
    ),
    (
        "MedicationStatement",
        &[
            "identifier",
            "basedOn",
            "partOf",
            "statusReason",
            "derivedFrom",
            "reasonCode",
            "reasonReference",
            "note",
            "dosage",
        ],
    ),
    (
        "Observation",
        &[
            "identifier",
            "basedOn",
            "partOf",
            "category",
            "focus",
            "performer",
            "interpretation",
            "note",
            "referenceRange",
            "referenceRange.appliesTo",
            "hasMember",
            "derivedFrom",
            "component",
            "component.interpretation",
            "component.referenceRange",
        ],
    ),
    (
        "Patient",
        &[
            "identifier",
            "name",
            "telecom",
            "address",
            "photo",
            "contact",
            "contact.relationship",
            "contact.telecom",
            "communication",
            "generalPractitioner",
            "link",
        ],
    ),
    ("QuestionnaireResponse", &["basedOn", "partOf", "item", "item.answer", "item.item", "item.answer.item"]),
    ("RelatedPerson", &["identifier", "relationship", "name", "telecom", "address", "photo", "communication"]),
];

/// Whether the element of the last of these steps is a list; `None` where that is not known.
pub(super) fn is_list(resource: &str, steps: &[Step]) -> Option<bool> {
    let last = steps.last()?;
    if LISTS.contains(&last.element.as_str()) {
        return Some(true);
    }
    let names: Vec<&str> = steps.iter().map(|step| step.element.as_str()).collect();
    let known = RESOURCES.iter().find(|(name, _)| *name == resource).map(|(_, lists)| lists);
    let is_selected = !last.selectors.is_empty() || last.index.is_some();
    match known {
        // Groups of a form stand in groups.
        Some(_) if resource == "QuestionnaireResponse" && matches!(last.element.as_str(), "item" | "answer") => {
            Some(true)
        }
        Some(lists) => Some(lists.contains(&names.join(".").as_str())),
        // Only of several is one selected.
        None => is_selected.then_some(true),
    }
}

/// Elements of a resource itself that are choices.
const ROOT_CHOICES: &[&str] =
    &["abatement", "deceased", "effective", "medication", "multipleBirth", "occurrence", "onset", "performed", "value"];

/// Elements in which `value` is a choice; elsewhere it is a plain element.
const VALUE_CHOICES: &[&str] = &["answer", "component", "extension"];

/// Whether the element of the last of these steps is the stem of a choice.
pub(super) fn is_choice(steps: &[Step]) -> bool {
    match steps {
        [only] => ROOT_CHOICES.contains(&only.element.as_str()),
        [.., parent, last] => last.element == "value" && VALUE_CHOICES.contains(&parent.element.as_str()),
        [] => false,
    }
}

/// Whether the `identifier` of a resource of this type is a list.
pub(super) fn has_many_identifiers(resource: &str) -> bool {
    !matches!(resource, "Bundle" | "Composition" | "QuestionnaireResponse")
}
