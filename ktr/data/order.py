"""The endless order in which questions are asked: a permutation per epoch, one after the other."""

import numpy as np
import torch


class QuestionOrder:
    """Maps a place in the endless stream of questions to a question's index, from (seed, epoch) and nothing else."""

    def __init__(self, num_questions: int, seed: int):
        self.num_questions, self.seed = num_questions, seed
        self._epoch, self._permutation = -1, [0]

    def __getitem__(self, place: int) -> int:
        epoch, offset = divmod(place, self.num_questions)
        if epoch != self._epoch:
            mixed = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1, np.uint64)[0])
            generator = torch.Generator().manual_seed(mixed)
            self._epoch, self._permutation = epoch, torch.randperm(self.num_questions, generator=generator).tolist()
        return self._permutation[offset]
