// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

interface IToken {
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// Pays many at once, in several ways of failing.
contract Disperse {
    receive() external payable {}

    /// All or nothing: the last payment may revert everything before it (P26).
    function pay(address payable[] calldata to, uint256[] calldata values) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            (bool ok,) = to[i].call{value: values[i]}("");
            require(ok, "refused");
        }
    }

    /// Goes on where one payment fails (P38).
    function payWhatGoes(address payable[] calldata to, uint256[] calldata values) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            (bool ok,) = to[i].call{value: values[i]}("");
            ok;
        }
    }

    function payToken(IToken token, address[] calldata to, uint256[] calldata values) external {
        for (uint256 i = 0; i < to.length; i++) token.transferFrom(msg.sender, to[i], values[i]);
    }

    /// Several tokens to one address, so that one transaction carries several contracts' logs (P8).
    function payTokens(IToken[] calldata tokens, address to, uint256[] calldata values) external {
        for (uint256 i = 0; i < tokens.length; i++) tokens[i].transferFrom(msg.sender, to, values[i]);
    }

    function payTokenWhatGoes(IToken token, address[] calldata to, uint256[] calldata values) external {
        for (uint256 i = 0; i < to.length; i++) {
            try token.transferFrom(msg.sender, to[i], values[i]) {} catch {}
        }
    }

    /// Each operation pays and may then fail, which takes back only its own payment (P25, P37).
    function handle(address payable[] calldata to, uint256[] calldata values, bool[] calldata fail)
        external
        payable
    {
        for (uint256 i = 0; i < to.length; i++) {
            try this.operation(to[i], values[i], fail[i]) {} catch {}
        }
    }

    function operation(address payable to, uint256 value, bool fail) external {
        require(msg.sender == address(this), "inner only");
        (bool ok,) = to.call{value: value}("");
        require(ok && !fail, "failed");
    }

    /// A DELEGATECALL shows its parent's value in traces and moves nothing (P25).
    function payThroughDelegate(Library lib, address payable to) external payable {
        (bool ok,) = address(lib).delegatecall(abi.encodeCall(Library.pay, (to)));
        require(ok, "delegate");
    }
}

contract Library {
    function pay(address payable to) external payable {
        (bool ok,) = to.call{value: msg.value / 2}("");
        require(ok, "refused");
    }
}

/// A deposit contract: sends on what it receives (P35).
contract Forwarder {
    address payable public immutable target;

    constructor(address payable target_) payable {
        target = target_;
        if (msg.value > 0) _forward();
    }

    receive() external payable {
        _forward();
    }

    function _forward() private {
        (bool ok,) = target.call{value: msg.value}("");
        require(ok, "refused");
    }
}

/// Refuses to be paid.
contract Closed {
    receive() external payable {
        revert("closed");
    }
}

/// Keeps what its creation brought, and can leave it to another without a call (P27, P34).
contract Estate {
    constructor() payable {}

    receive() external payable {}

    function bequeath(address payable heir) external {
        selfdestruct(heir);
    }
}

/// Creates contracts with value at addresses known beforehand (P34).
contract Factory {
    function create(bytes32 salt) external payable returns (address) {
        return address(new Estate{value: msg.value, salt: salt}());
    }
}
