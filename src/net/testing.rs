//! Certificates for tests.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A root, an authority below it, and a host's certificate below that.
pub(crate) struct Chain {
    pub(crate) root: Certificate,
    pub(crate) middle: Certificate,
    pub(crate) leaf: Certificate,
    pub(crate) leaf_key: KeyPair,
}

/// Makes one in a host's name. `authority` is part of the authorities' names; `change` may spoil the leaf.
pub(crate) fn chain(authority: &str, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Chain {
    let authority = |which: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{authority}, {which}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let ((root_params, root_key), (middle_params, middle_key)) = (authority("root"), authority("middle"));
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, root_key);
    let middle = middle_params.signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(middle_params, middle_key);
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut leaf);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &middle_issuer).unwrap();
    Chain { root, middle, leaf, leaf_key }
}
