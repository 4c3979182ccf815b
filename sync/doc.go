// Package sync holds no code: its rooms do. wire is what agent and hub say to
// each other, outbox keeps results until the hub has them, fetch brings
// artefacts by digest, link speaks MQTT. It stays empty so that nothing is
// ever imported as "sync" but the standard library's package.
package sync
