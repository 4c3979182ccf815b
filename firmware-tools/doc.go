// Package firmwaretools holds no code: its rooms do. files has what gets
// installed, deb makes Debian packages of it, image puts it into an image of
// Raspberry Pi OS, vm boots virtual boards. They run on a person's computer;
// the agent links files alone, which it writes on a board that has no package.
package firmwaretools
