package pack

import (
	"encoding/json"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
)

// PurposeModel is the purpose (package sign) for which a model's manifest
// digest, "sha256:…", is signed.
const PurposeModel = "dunlin.model"

// AnnotationSignature is where an index entry holds the signature of its
// manifest: a sign.Signature in JSON.
const AnnotationSignature = "org.dunlin.signature"

// Sign signs the manifest of that digest, after it hashed every blob that
// the manifest names, and stores the signature in the index.
func Sign(l *oci.Layout, digest string, key sign.PrivateKey) error {
	d, err := oci.ParseDigest(digest)
	if err != nil {
		return &Error{Pack: clip(digest), Part: "manifest", Err: err}
	}
	if err := l.Verify(d); err != nil {
		return &Error{Pack: digest, Part: "manifest", Err: err}
	}
	return AddSignature(l, digest, key.Sign(PurposeModel, []byte(digest)))
}

// AddSignature stores a signature that was made elsewhere. It does not check
// it.
func AddSignature(l *oci.Layout, digest string, s sign.Signature) error {
	data, err := json.Marshal(s)
	if err != nil {
		return &Error{Pack: clip(digest), Part: "signature", Err: err}
	}
	if err := l.Annotate(oci.Digest(digest), map[string]string{AnnotationSignature: string(data)}); err != nil {
		return &Error{Pack: clip(digest), Part: "signature", Err: err}
	}
	return nil
}

// Signature returns the signature of a manifest, unchecked, and whether there
// is one. Check it with sign.Trust.Verify(PurposeModel, []byte(digest), s).
func Signature(l *oci.Layout, digest string) (sign.Signature, bool) {
	d, err := l.Entry(oci.Digest(digest))
	if err != nil {
		return sign.Signature{}, false
	}
	var s sign.Signature
	if err := json.Unmarshal([]byte(d.Annotations[AnnotationSignature]), &s); err != nil {
		return sign.Signature{}, false
	}
	return s, s.Key != ""
}
