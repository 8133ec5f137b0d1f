"""What a label of a segment rests on: the recent past is kept as cheaply as can be, and explained only when asked."""
