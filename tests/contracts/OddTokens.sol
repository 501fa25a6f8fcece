// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

bytes32 constant TRANSFER = keccak256("Transfer(address,address,uint256)");

/// What every contract here says of itself.
abstract contract Named {
    string public name = "Odd";
    string public symbol = "ODD";
    uint8 public decimals = 6;
}

/// Returns false instead of reverting, and then emits nothing (P3).
contract FalseToken is Named {
    mapping(address => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function transfer(address to, uint256 value) external returns (bool) {
        if (balanceOf[msg.sender] < value) return false;
        balanceOf[msg.sender] -= value;
        balanceOf[to] += value;
        emit Transfer(msg.sender, to, value);
        return true;
    }
}

/// Moves the money, emits the event, and returns false all the same (P4).
contract ContraryToken is Named {
    mapping(address => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function transfer(address to, uint256 value) external returns (bool) {
        balanceOf[msg.sender] -= value;
        balanceOf[to] += value;
        emit Transfer(msg.sender, to, value);
        return false;
    }
}

/// Emits two events for one movement, as ERC-777 does (P12).
contract TwoEventToken is Named {
    event Sent(
        address indexed operator, address indexed from, address indexed to, uint256 amount, bytes data, bytes operatorData
    );
    event Transfer(address indexed from, address indexed to, uint256 value);

    function send(address to, uint256 value) external {
        emit Sent(msg.sender, msg.sender, to, value, "", "");
        emit Transfer(msg.sender, to, value);
    }
}

/// Emits whatever it is asked to, with nothing behind it: events are statements, not facts. Also
/// installed at addresses that no contract of ours could have.
contract Emitter is Named {
    function standard(address from, address to, uint256 value) external {
        _log3(_word(from), _word(to), abi.encode(value));
    }

    /// Un-indexed parameters (P10): one topic and 96 bytes.
    function unindexed(address from, address to, uint256 value) external {
        bytes memory data = abi.encode(from, to, value);
        bytes32 topic = TRANSFER;
        assembly {
            log1(add(data, 32), mload(data), topic)
        }
    }

    /// Un-indexed parameters (P10): two topics and 64 bytes.
    function halfIndexed(address from, address to, uint256 value) external {
        bytes memory data = abi.encode(to, value);
        bytes32 topic = TRANSFER;
        bytes32 sender = _word(from);
        assembly {
            log2(add(data, 32), mload(data), topic, sender)
        }
    }

    /// Four topics: the token's number where an amount would be (P9).
    function nft(address from, address to, uint256 id) external {
        bytes32 topic = TRANSFER;
        bytes32 sender = _word(from);
        bytes32 recipient = _word(to);
        assembly {
            log4(0, 0, topic, sender, recipient, id)
        }
    }

    /// A recipient topic whose upper twelve bytes are not zero (P11).
    function dirty(address from, address to, uint256 value) external {
        _log3(_word(from), bytes32(uint256(uint160(to)) | (type(uint256).max << 160)), abi.encode(value));
    }

    /// More data than one word (P11).
    function tooLong(address from, address to, uint256 value) external {
        _log3(_word(from), _word(to), abi.encode(value, value));
    }

    /// Less data than one word (P11).
    function tooShort(address from, address to) external {
        _log3(_word(from), _word(to), hex"01");
    }

    function spam(address from, address to, uint256 value, uint256 times) external {
        for (uint256 i = 0; i < times; i++) _log3(_word(from), _word(to), abi.encode(value));
    }

    function _word(address account) private pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    function _log3(bytes32 from, bytes32 to, bytes memory data) private {
        bytes32 topic = TRANSFER;
        assembly {
            log3(add(data, 32), mload(data), topic, from, to)
        }
    }
}
