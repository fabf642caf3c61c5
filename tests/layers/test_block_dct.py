"""Block DCT: orthonormal functions, the strongest first."""

import torch

from diffjscc.layers.block_dct import STRIDE, dct_basis, dct_matrix


def test_the_dct_is_orthonormal() -> None:
    matrix = dct_matrix(11)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(11, dtype=torch.float64))
    smooth = matrix @ torch.ones(11, dtype=torch.float64)
    assert smooth[1:].abs().max() < 1e-12


def test_basis_functions_are_orthonormal_and_ordered_by_their_deviation() -> None:
    basis, deviation = dct_basis(32, STRIDE)
    assert basis.shape == (32, 3, STRIDE, STRIDE)
    torch.testing.assert_close(basis.flatten(1) @ basis.flatten(1).T, torch.eye(32))
    assert deviation.diff().max() <= 0
    grey = torch.full((3, STRIDE, STRIDE), 0.5)  # a grey block has the first function alone
    coefficients = torch.einsum("kcyx,cyx->k", basis, grey)
    assert coefficients[1:].abs().max() < 1e-4 * coefficients[0].abs()
