"""Operations written by hand for a compiler, each beside the plain form that it equals."""
