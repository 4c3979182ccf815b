package cli

import "github.com/spf13/cobra"

// imageCommand holds what puts dunlin onto boards, a file for each of its
// commands. The work is done in firmware-tools, not here.
func imageCommand() *cobra.Command {
	return group("image", "Put dunlin onto boards: Debian packages, prepared cards, a virtual board",
		imageDebCommand(), imageProvisionCommand(), imageVMCommand())
}
