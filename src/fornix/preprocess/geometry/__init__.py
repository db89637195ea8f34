"""Where the signal of each voxel really comes from: head motion, eddy currents, the susceptibility field."""
