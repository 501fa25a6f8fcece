// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Named} from "./OddTokens.sol";

/// Tokens whose balances are not what their events add up to.
abstract contract Unfaithful is Named {
    mapping(address => uint256) internal _shares;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function mint(address to, uint256 value) external {
        _shares[to] += value;
        emit Transfer(address(0), to, value);
    }

    function balanceOf(address owner) public view virtual returns (uint256) {
        return _shares[owner];
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _shares[msg.sender] -= value;
        _shares[to] += _arriving(value);
        emit Transfer(msg.sender, to, value);
        return true;
    }

    function _arriving(uint256 value) internal view virtual returns (uint256) {
        return value;
    }
}

/// Keeps a fiftieth of each payment, and tells of the whole (P13).
contract FeeToken is Unfaithful {
    function _arriving(uint256 value) internal pure override returns (uint256) {
        return value - value / 50;
    }
}

/// Tells of payments that move nothing (P7).
contract PhantomToken is Unfaithful {
    function pretend(address to, uint256 value) external {
        emit Transfer(msg.sender, to, value);
    }
}

/// Doubles what everybody has, without a word.
contract RebasingToken is Unfaithful {
    uint256 private _factor = 1;

    function balanceOf(address owner) public view override returns (uint256) {
        return _shares[owner] * _factor;
    }

    function rebase() external {
        _factor *= 2;
    }
}
