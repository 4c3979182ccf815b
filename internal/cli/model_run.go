package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dunlin/engine"
)

// outputEntry is one line of outputs.json.
type outputEntry struct {
	File      string   `json:"file"`
	Name      string   `json:"name"`
	DType     string   `json:"dtype"`
	Shape     []int    `json:"shape"`
	Scale     *float32 `json:"scale,omitempty"`
	ZeroPoint *int32   `json:"zero_point,omitempty"`
}

func modelRunCommand() *cobra.Command {
	var (
		in      inputFlags
		flags   compileFlags
		picture pictureFlags
		dir     string
		asJSON  bool
	)
	c := &cobra.Command{
		Use:   "run MODEL {--input KEY=FILE.bin … --output-dir DIR | --picture FILE}",
		Short: "Run a model once, on raw tensors or on a picture",
		Long: `Run reads raw little-endian row-major tensors, runs MODEL (.onnx, .tflite or a
packed model) once, and writes the graph's outputs as DIR/0.bin, DIR/1.bin, … in
the order of the graph, with DIR/outputs.json beside them: name, dtype, shape, and
scale and zero point where an output is quantised.

KEY is the name of an input or its index; a name wins. Constants listed among the
inputs of an old ONNX file do not count. Where one axis of an input is open, the
size of its file decides.

With --picture it looks at a PNG or JPEG and prints labels, boxes or text; -o writes
the picture with the boxes drawn. How the picture becomes the input is read from the
pack, --prep or prep.toml beside MODEL, or is known for some well-known files.`,
		Example: `  dunlin model run net.onnx --input 0=picture.bin --output-dir out
  dunlin model run net.onnx --input ids=ids.bin --shape ids=1,128 --output-dir out
  dunlin model run yunet-n-320.onnx --picture team.jpg -o faces.png`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (dir == "") == (picture.in == "") {
				return usagef("say --input and --output-dir for raw tensors, or --picture FILE")
			}
			o, err := flags.options()
			if err != nil {
				return err
			}
			m, err := load(args[0])
			if err != nil {
				return err
			}
			defer m.close()
			if picture.in != "" {
				s, err := runPicture(m, picture, o)
				if err == nil && asJSON {
					return printJSON(c.OutOrStdout(), s)
				}
				if err == nil {
					printSeen(c.OutOrStdout(), s)
				}
				return err
			}
			entries, err := runOnce(m, in, dir, o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), entries)
			}
			rows := [][]string{{"FILE", "NAME", "TYPE", "SHAPE"}}
			for _, e := range entries {
				rows = append(rows, []string{filepath.Join(dir, e.File), e.Name, e.DType, fmt.Sprint(e.Shape)})
			}
			table(c.OutOrStdout(), rows)
			return nil
		},
	}
	in.register(c)
	c.Flags().StringVar(&dir, "output-dir", "", "folder for the outputs; made where it is missing")
	c.Flags().StringVar(&picture.in, "picture", "", "look at this PNG or JPEG in place of raw tensors")
	c.Flags().StringVarP(&picture.out, "output", "o", "", "with --picture: write the picture with what was found to this PNG")
	c.Flags().StringVar(&picture.prep, "prep", "", "with --picture: file that says how it becomes the input")
	c.Flags().StringVar(&picture.keys, "keys", "", "with --picture: file with the characters that a reader of text knows, one a line")
	flags.register(c)
	jsonFlag(c, &asJSON)
	return c
}

// runOnce runs m and writes its outputs to dir.
func runOnce(m *loaded, in inputFlags, dir string, o engine.Options) ([]outputEntry, error) {
	shapes, data, err := in.resolve(m.graph, false)
	if err != nil {
		return nil, err
	}
	p, s, err := m.session(shapes, data, o)
	if err != nil {
		return nil, err
	}
	if err := s.Run(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	entries := []outputEntry{}
	for i, port := range p.Outputs() {
		t := s.Output(i)
		e := outputEntry{File: fmt.Sprintf("%d.bin", i), Name: port.Name, DType: t.Type.String(), Shape: t.Shape}
		if port.Quantised {
			e.Scale, e.ZeroPoint = &port.Scale, &port.Zero
		}
		entries = append(entries, e)
		if err := os.WriteFile(filepath.Join(dir, e.File), t.Data, 0o666); err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(entries, "", "  ")
	return entries, errors.Join(err, os.WriteFile(filepath.Join(dir, "outputs.json"), append(text, '\n'), 0o666))
}
