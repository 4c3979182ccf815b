package agent

import (
	"image"

	"dunlin/model"
	"dunlin/model/prep"
)

// input is a frame's bytes, decoded once however many inputs are made of it.
type input struct {
	data   []byte
	limits prep.Limits
	img    image.Image
	sound  *prep.Sound
}

// maxSamples bounds a sound once it is decoded: 16 MB, 4 minutes at 16 kHz.
const maxSamples = 4 << 20

// fill makes the tensor that in speaks of.
func (i *input) fill(in prep.Input, dst *model.Tensor) (err error) {
	if in.Kind == "sound" {
		if i.sound == nil {
			s, err := prep.DecodeSound(i.data, prep.SoundLimits{MaxSamples: maxSamples})
			if err != nil {
				return err
			}
			i.sound = &s
		}
		return in.Sound(*i.sound, dst)
	}
	if in.Kind == "values" {
		return in.Numbers(i.data, dst)
	}
	if i.img == nil {
		if i.img, err = prep.Decode(i.data, i.limits); err != nil {
			return err
		}
	}
	return in.Picture(i.img, dst)
}
