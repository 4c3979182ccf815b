package model

import "fmt"

// Weights of four bits. Each output channel of an int8 tensor is cut into
// groups of Int4Group consecutive weights, the last of which may be shorter.
// Where every group is a whole number from 1 to 127 times weights from -7 to
// 7, that number and those weights say all. Whoever computes sees int8.
//
//	byte 0    1       2       3             16
//	+--------+-------+-------+-----   -----+-------+-----
//	| times  | 1 | 0 | 3 | 2 |     ...     |31 | 30| next group
//	+--------+-------+-------+-----   -----+-------+-----
//
// The first of two weights is in the low half of a byte, in two's complement;
// the half that an odd group leaves over is zero. Channels follow each other,
// whichever axis they are of.

// Int4Group is how many weights share a factor.
const Int4Group = 32

// int4Most is the largest weight: the range is symmetric.
const int4Most = 7

// Int4Size returns how many bytes PackInt4 makes of a tensor of that shape.
func Int4Size(shape Shape, axis int) int {
	channels, depth := shape[axis], 1
	for a, d := range shape {
		if a != axis {
			depth *= d
		}
	}
	whole, rest := depth/Int4Group, depth%Int4Group
	size := whole * (1 + Int4Group/2)
	if rest > 0 {
		size += 1 + (rest+1)/2
	}
	return channels * size
}

// PackInt4 returns t, an I8 tensor whose output channels are along axis, as
// weights of four bits; nil where it is not made of such.
func PackInt4(t *Tensor, axis int) []byte {
	if t.Type != I8 || axis < 0 || axis >= len(t.Shape) || t.Elements() == 0 {
		return nil
	}
	values := t.I8()
	out := make([]byte, 0, Int4Size(t.Shape, axis))
	var group [Int4Group]int8
	each := int4Groups(t.Shape, axis)
	ok := each(func(at []int) bool {
		for k, i := range at {
			group[k] = values[i]
		}
		out = appendInt4(out, group[:len(at)])
		return out != nil
	})
	if !ok {
		return nil
	}
	return out
}

// appendInt4 appends a group, nil where it is none.
func appendInt4(out []byte, group []int8) []byte {
	factor, most := 0, 0
	for _, v := range group {
		a := int(v)
		if a < 0 {
			a = -a
		}
		most = max(most, a)
		for b := a; b != 0; {
			factor, b = b, factor%b
		}
	}
	factor = max(factor, 1)
	if factor > 127 || most > int4Most*factor {
		return nil
	}
	out = append(out, byte(factor))
	for k := 0; k < len(group); k += 2 {
		b := byte(int(group[k])/factor) & 15
		if k+1 < len(group) {
			b |= byte(int(group[k+1])/factor) << 4
		}
		out = append(out, b)
	}
	return out
}

// UnpackInt4 returns the I8 tensor of which PackInt4 made data. It fails on
// data of another length, and on what PackInt4 does not make.
func UnpackInt4(data []byte, shape Shape, axis int) (*Tensor, error) {
	n, err := shape.Elements()
	if err != nil {
		return nil, err
	}
	if axis < 0 || axis >= len(shape) || n == 0 {
		return nil, fmt.Errorf("weights of four bits %v with channels along axis %d", shape, axis)
	}
	// Before any memory is taken: data is at least half of what it becomes.
	if want := Int4Size(shape, axis); len(data) != want {
		return nil, fmt.Errorf("weights of four bits %v need %d bytes, there are %d", shape, want, len(data))
	}
	t, err := NewTensor(I8, shape...)
	if err != nil {
		return nil, err
	}
	values := t.I8()
	each := int4Groups(shape, axis)
	each(func(at []int) bool {
		size := 1 + (len(at)+1)/2
		err = readInt4(values, at, data[:size])
		data = data[size:]
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// readInt4 reads the group whose weights stand at those indices.
func readInt4(values []int8, at []int, data []byte) error {
	factor := int(data[0])
	if factor < 1 || factor > 127 {
		return fmt.Errorf("weights of four bits: a factor of %d", factor)
	}
	for k := range 2 * (len(data) - 1) {
		q := int(int8(data[1+k/2]<<(4-4*(k%2))) >> 4)
		switch v := q * factor; {
		case k >= len(at) && q != 0:
			return fmt.Errorf("weights of four bits: %d behind the end of a group", q)
		case k >= len(at):
		case q < -int4Most || v < -127 || v > 127:
			return fmt.Errorf("weights of four bits: %d times %d", factor, q)
		default:
			values[at[k]] = int8(v)
		}
	}
	return nil
}

// int4Groups returns the function that calls f with the indices of each group
// until f returns false, and returns what f returned last. at is valid during
// the call only.
func int4Groups(shape Shape, axis int) func(f func(at []int) bool) bool {
	outer, channels, inner := 1, shape[axis], 1
	for a, d := range shape {
		if a < axis {
			outer *= d
		} else if a > axis {
			inner *= d
		}
	}
	return func(f func(at []int) bool) bool {
		var at [Int4Group]int
		for c := range channels {
			n := 0
			for k := range outer * inner {
				at[n] = (k/inner*channels+c)*inner + k%inner
				if n++; n == Int4Group || k == outer*inner-1 {
					if !f(at[:n]) {
						return false
					}
					n = 0
				}
			}
		}
		return true
	}
}
