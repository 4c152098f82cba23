//! The cryptography under `jsonwebtoken`: ring, as under TLS. Signatures are checked, and none is made; there are no
//! shared secrets (HS256 and the like).
//!
//! The library brings two of its own: aws-lc would be a second provider beside ring's, and RustCrypto's `rsa` has an
//! advisory without a fix (RUSTSEC-2023-0071).

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature as sig;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Check::new(*algorithm, key)?)),
    // For making JWKs out of keys, which nobody does here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Chooses it, once for the process; calling it again is harmless.
pub(super) fn install() {
    // The error only says that there is one already.
    let _ = PROVIDER.install_default();
}

enum Method {
    /// With a key of at least 2048 bits.
    Rsa(&'static sig::RsaParameters),
    /// With a key that is a point on a curve.
    Curve(&'static dyn sig::VerificationAlgorithm),
}

struct Check {
    algorithm: Algorithm,
    method: Method,
    key: DecodingKey,
}

impl Check {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        let method = match algorithm {
            Algorithm::RS256 => Method::Rsa(&sig::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Method::Rsa(&sig::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Method::Rsa(&sig::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Method::Rsa(&sig::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Method::Rsa(&sig::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Method::Rsa(&sig::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Method::Curve(&sig::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Method::Curve(&sig::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Method::Curve(&sig::ED25519),
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Ok(Self { algorithm, method, key: key.clone() })
    }
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let checked = match (&self.method, self.key.kind()) {
            (Method::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                sig::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Method::Curve(curve), DecodingKeyKind::SecretOrDer(point)) => {
                sig::UnparsedPublicKey::new(*curve, point).verify(message, signature)
            }
            _ => return Err(Error::new()),
        };
        checked.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
