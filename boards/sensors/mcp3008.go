package sensors

import "context"

// mcpChannels are the bits SGL/DIFF, D2, D1, D0 (Microchip DS21295, table
// 5-2): the first of a pair is its plus.
var mcpChannels = map[string]int{
	"0": 8, "1": 9, "2": 10, "3": 11, "4": 12, "5": 13, "6": 14, "7": 15,
	"0-1": 0, "1-0": 1, "2-3": 2, "3-2": 3, "4-5": 4, "5-4": 5, "6-7": 6, "7-6": 7,
}

// mcp3008 is one input of an MCP3008.
type mcp3008 struct {
	link
	c         Config
	channel   byte
	reference float64 // volts
}

// openMCP3008 makes one conversion, to see that something answers.
func openMCP3008(ctx context.Context, c Config, l link) (Chip, error) {
	bits, err := c.channel()
	if err != nil {
		return nil, err
	}
	m := &mcp3008{link: l, c: c, channel: byte(bits), reference: 3.3}
	if c.ReferenceMV != 0 {
		m.reference = float64(c.ReferenceMV) / 1000
	}
	_, err = m.Read(ctx)
	return m, err
}

// Read implements Chip. The code is 1024*VIN/VREF (DS21295, equation 4-2).
func (m *mcp3008) Read(context.Context) ([]Reading, error) {
	// Figure 6-1: a start bit at the end of the first byte, the channel in the
	// upper half of the second, then a null bit and ten of the answer.
	r := make([]byte, 3)
	if err := m.tx([]byte{0x01, m.channel << 4, 0}, r); err != nil {
		return nil, err
	}
	if r[1]&0x04 != 0 {
		return nil, m.wrong(m.hint, "%w: there is no null bit before its answer", ErrSilent)
	}
	code := int(r[1]&0x03)<<8 | int(r[2])
	return m.c.converted(float64(code) * m.reference / 1024), nil
}
