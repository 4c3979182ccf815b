// Package firmwaretools holds no code: its rooms do. deb makes the Debian
// packages of both programs and holds the files that they install. They run on
// a person's computer; the agent links none of them but the files themselves,
// which it writes on a board that has no package.
package firmwaretools
